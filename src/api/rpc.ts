// Turns promise-shaped handlers into gRPC handlers. Every call ends once: with its answer, a status, a hang-up or its
// deadline, whichever comes first; grpc-js also says 'cancelled' after a normal end, and that is filtered out here.
//
//   open ──answer │ failure │ hang-up │ deadline──▶ ended: one log line, timer and listeners gone
//
// Hang-up, deadline and cancellation reach the handler as one AbortSignal; its reason is what the client is told.

import {
  type handleServerStreamingCall,
  type handleUnaryCall,
  type ServerUnaryCall,
  type ServerWritableStream,
  status as StatusCodes,
  type StatusObject,
} from '@grpc/grpc-js';
import { Failure } from '../base/failures.js';
import type { Log } from '../base/log.js';
import { refuseBadTexts } from './proto.js';
import { CallEnded, statusOf } from './status.js';
import { startTimer } from './time.js';

export type UnaryHandler<Request, Response> = (request: Request, call: Call) => Promise<Response> | Response;
export type StreamHandler<Request, Response> = (request: Request, call: Call, out: Outlet<Response>) => Promise<void>;

/** Where the log lines of calls go, and at which level one that ended well is worth a line. */
export interface CallLog {
  readonly log: Log;
  readonly level: 'info' | 'debug';
}

// The client's deadline began before the call reached us, so its reset can come this long before our own timer.
const DEADLINE_SLACK_MS = 250;

export class Call {
  readonly acceptedMs = performance.now();
  readonly acceptedWallMs = Date.now();
  /** Wall clock, milliseconds; null: none. */
  readonly deadlineWallMs: number | null;
  /** Set by handlers of requests that have one. */
  requestId: string | null = null;
  /** Further fields of the log line. */
  readonly facts: Record<string, unknown> = {};
  readonly #peer: string;
  readonly #trace: Readonly<Record<string, string>>;
  readonly #controller = new AbortController();
  readonly #deadlineTimer: NodeJS.Timeout | null = null;
  #hasEnded = false;

  constructor(
    readonly rpc: string,
    private readonly sink: CallLog,
    call: ServerUnaryCall<unknown, unknown> | ServerWritableStream<unknown, unknown>,
  ) {
    this.#peer = call.getPeer(); // unknown once the socket is gone
    this.#trace = traceOf(call.metadata.get('traceparent')[0]);
    const deadline = Number(call.getDeadline());
    this.deadlineWallMs = Number.isFinite(deadline) ? deadline : null;
    call.on('cancelled', () =>
      this.abort(new CallEnded(this.#isOverdue() ? StatusCodes.DEADLINE_EXCEEDED : StatusCodes.CANCELLED)),
    );
    if (this.deadlineWallMs !== null) {
      // grpc-js has a timer too, but tells nobody while a slow reader keeps its status from leaving.
      const overdue = new CallEnded(StatusCodes.DEADLINE_EXCEEDED);
      this.#deadlineTimer = startTimer(this.deadlineWallMs - Date.now(), () => this.abort(overdue));
    }
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Stops the work; the handler ends with `reason`. Nothing happens to a call that has ended. */
  abort(reason: Failure | CallEnded): void {
    if (!this.#hasEnded) this.#controller.abort(reason);
  }

  /** The call is over; false when it was before. */
  end(code: number, reason: string | null, error: unknown): boolean {
    if (this.#hasEnded) return false;
    this.#hasEnded = true;
    if (this.#deadlineTimer) clearTimeout(this.#deadlineTimer);
    const line = {
      rpc: this.rpc,
      code: StatusCodes[code],
      ...(reason === null ? {} : { reason }),
      ...(this.requestId === null ? {} : { request_id: this.requestId }),
      ...this.#trace,
      peer: this.#peer,
      duration_ms: Math.round(performance.now() - this.acceptedMs),
      ...this.facts,
    };
    if (code === StatusCodes.INTERNAL) this.sink.log.error({ ...line, err: error }, 'call failed');
    else this.sink.log[this.sink.level](line, code === StatusCodes.OK ? 'call finished' : 'call ended');
    return true;
  }

  /** As `end`, for whatever the handler threw; null when it was over before. */
  fail(error: unknown): StatusObject | null {
    const { status, reason } = statusOf(error, this.requestId);
    return this.end(status.code, reason, error) ? status : null;
  }

  #isOverdue(): boolean {
    return this.deadlineWallMs !== null && Date.now() >= this.deadlineWallMs - DEADLINE_SLACK_MS;
  }
}

/** Ids of the caller's trace and span (W3C Trace Context), for the log. */
function traceOf(traceparent: string | Buffer | undefined): Readonly<Record<string, string>> {
  const match = /^[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-/.exec(String(traceparent ?? ''));
  return match ? { trace_id: match[1] as string, span_id: match[2] as string } : {};
}

/** Writing end of a stream that tells when its reader is slow. What is written while full is kept in memory. */
export class Outlet<Response> {
  isFull = false;
  /** The reader has caught up. */
  onDrain: () => void = () => {};

  constructor(private readonly call: ServerWritableStream<unknown, Response>) {
    call.on('drain', () => {
      this.isFull = false;
      this.onDrain();
    });
  }

  write(message: Response): void {
    this.isFull = !this.call.write(message);
  }

  /** The last message: resolves when it and all before it are on their way; rejects with the reason of `signal`. */
  writeLast(message: Response, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      // After a cancellation grpc-js calls nobody back.
      if (signal.aborted) reject(signal.reason);
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
      this.call.write(message, () => resolve());
    });
  }
}

export function unary<Request, Response>(
  rpc: string,
  sink: CallLog,
  handler: UnaryHandler<Request, Response>,
): handleUnaryCall<Request, Response> {
  return (grpcCall, callback) => {
    const call = new Call(rpc, sink, grpcCall as ServerUnaryCall<unknown, unknown>);
    invoke(grpcCall.request, async () => handler(grpcCall.request, call)).then(
      (response) => {
        if (call.end(StatusCodes.OK, null, null)) callback(null, response);
      },
      (error: unknown) => {
        const status = call.fail(error);
        if (status) callback(status);
      },
    );
  };
}

export function serverStream<Request, Response>(
  rpc: string,
  sink: CallLog,
  handler: StreamHandler<Request, Response>,
): handleServerStreamingCall<Request, Response> {
  return (grpcCall) => {
    const call = new Call(rpc, sink, grpcCall as ServerWritableStream<unknown, unknown>);
    const out = new Outlet<Response>(grpcCall as ServerWritableStream<unknown, Response>);
    invoke(grpcCall.request, () => handler(grpcCall.request, call, out)).then(
      () => {
        if (call.end(StatusCodes.OK, null, null)) grpcCall.end();
      },
      (error: unknown) => {
        const status = call.fail(error);
        // Not destroy(): messages that were written before still have to leave.
        if (status) grpcCall.emit('error', status);
      },
    );
  };
}

/** Also what is thrown before the first await becomes a rejection. */
async function invoke<Result>(request: unknown, run: () => Promise<Result>): Promise<Result> {
  refuseBadTexts(request as object);
  return run();
}

export function featureDisabled(rpc: string): Failure {
  return new Failure('FEATURE_DISABLED', `this server does not have ${rpc} yet`, { metadata: { feature: rpc } });
}
