// What grpc-js leaves open below the calls. Two of its private members are used here and nowhere else.
//
// Resets. nghttp2 allows a connection 1,000 stream resets and 33 more a second; the next one ends the connection, and
// every call on it fails. Cancelled calls and expired deadlines are such resets, so a client that cancels a lot would lose
// the calls that it wants. From Node 22.10 the limit can be raised; before that, a connection that comes near it gets a
// GOAWAY: its calls go on, and the client opens another connection for new ones.
//
// Keepalive. Behind a GOAWAY of either side a session counts as closing, and Node sends no more pings on it. grpc-js takes
// that for a dead connection and ends the calls that GOAWAY promised to let go on; TCP's own keepalive watches instead.
//
// Deadlines. grpc-js takes a timeout modulo 2^32 ms, so that a deadline in a month has passed already. Beyond what a timer
// can hold there is none.

import type { Http2Server, IncomingHttpHeaders, ServerHttp2Session, ServerHttp2Stream } from 'node:http2';
import type { Socket } from 'node:net';
import { logVerbosity, type Server, type ServerOptions, setLogVerbosity } from '@grpc/grpc-js';
import type { Log } from '../base/log.js';

const RESET_BURST = 1000;
const RESETS_PER_SECOND = 33;
/** GOAWAY with this many left: more than a connection's streams, which may all be reset before we hear of the first. */
const RESETS_RESERVED = 500;
/** Limit where Node lets us set it: 100,000 calls cancelled at once are still a client's own business. */
const RAISED_RESETS = 1_000_000;

const canRaiseLimit = isNodeAtLeast(22, 10);

const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;
const MINUTE_MS = 60_000;
const KEEPALIVE_MS = 30_000;

/** For `new Server(...)`. */
export const serverOptions: ServerOptions = {
  'grpc.max_receive_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_send_message_length': MESSAGE_BYTES_MAX,
  'grpc.max_concurrent_streams': canRaiseLimit ? 1000 : 400,
  // Without these a host that vanished holds its request until the deadline.
  'grpc.keepalive_time_ms': KEEPALIVE_MS,
  'grpc.keepalive_timeout_ms': 10_000,
  'grpc.max_connection_idle_ms': 30 * MINUTE_MS,
};

interface PrivateServer {
  commonServerOptions: Record<string, unknown>;
  createHttp2Server(credentials: unknown): Http2Server;
}

/** What leaves a server, on all its connections. */
export interface Outflow {
  readonly bytesSent: () => number;
  /** Something written waits for its reader. */
  readonly isWaiting: () => boolean;
}

/** To be called before the server is bound. */
export function guardTransport(server: Server, log: Log): Outflow {
  // It prints what it also returns, such as a port that is taken; GRPC_TRACE and GRPC_VERBOSITY bring it back.
  if (!process.env.GRPC_VERBOSITY && !process.env.GRPC_TRACE) setLogVerbosity(logVerbosity.NONE);
  const internals = server as unknown as PrivateServer;
  if (typeof internals.createHttp2Server !== 'function' || typeof internals.commonServerOptions !== 'object') {
    throw new Error('this version of @grpc/grpc-js is built differently: see src/api/transport.ts');
  }
  if (canRaiseLimit) {
    Object.assign(internals.commonServerOptions, { streamResetBurst: RAISED_RESETS, streamResetRate: RAISED_RESETS });
  }
  let sentBefore = 0;
  const sockets = new Set<Socket>();
  const streams = new Set<ServerHttp2Stream>();
  const onConnection = (socket: Socket): void => {
    socket.setKeepAlive(true, KEEPALIVE_MS);
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      sentBefore += socket.bytesWritten;
    });
  };
  const onStream = (stream: ServerHttp2Stream): void => {
    streams.add(stream);
    stream.once('close', () => streams.delete(stream));
  };
  const createHttp2Server = internals.createHttp2Server;
  internals.createHttp2Server = (credentials) => {
    const http2Server = createHttp2Server.call(server, credentials);
    http2Server.prependListener('stream', dropEndlessTimeout);
    http2Server.on('connection', onConnection).on('stream', onStream);
    http2Server.prependListener('session', keepClosingSessionAlive);
    if (!canRaiseLimit) guardResets(http2Server, log);
    return http2Server;
  };
  return {
    bytesSent: () => [...sockets].reduce((sum, socket) => sum + socket.bytesWritten, sentBefore),
    isWaiting: () => [...streams].some(({ writableLength }) => writableLength > 0),
  };
}

function keepClosingSessionAlive(session: ServerHttp2Session): void {
  const ping = session.ping.bind(session) as (...args: unknown[]) => boolean;
  session.ping = (...args: unknown[]): boolean => {
    if (!session.closed || session.destroyed) return ping(...args);
    const callback = args.at(-1) as (error: Error | null, durationMs: number, payload: Buffer) => void;
    setImmediate(callback, null, 0, Buffer.alloc(8));
    return true;
  };
}

function guardResets(http2Server: Http2Server, log: Log): void {
  const budgets = new WeakMap<ServerHttp2Session, ResetBudget>();
  http2Server.on('session', (session) => budgets.set(session, new ResetBudget()));
  http2Server.on('stream', (stream: ServerHttp2Stream) => {
    const session = stream.session as ServerHttp2Session | undefined;
    const budget = session && budgets.get(session);
    if (!session || !budget) return;
    stream.once('close', () => {
      if (!wasReset(stream) || !budget.spend() || session.destroyed) return;
      log.debug(
        { peer: session.socket?.remoteAddress },
        'many cancelled calls on one connection: asking for a new one',
      );
      session.goaway(0, 2 ** 31 - 1);
      session.close();
    });
  });
}

/** A client resets the stream of a call that it gives up, and may reset one that ended with an error. */
function wasReset(stream: ServerHttp2Stream): boolean {
  const status = stream.sentTrailers?.['grpc-status'] ?? stream.sentHeaders?.['grpc-status'];
  return stream.rstCode !== 0 || (status !== undefined && Number(status) !== 0);
}

/** What nghttp2 counts, counted along. */
class ResetBudget {
  #left = RESET_BURST;
  #updatedMs = performance.now();
  #isSpent = false;

  /** True once: the connection must be given up. */
  spend(): boolean {
    const nowMs = performance.now();
    this.#left = Math.min(RESET_BURST, this.#left + ((nowMs - this.#updatedMs) / 1000) * RESETS_PER_SECOND) - 1;
    this.#updatedMs = nowMs;
    if (this.#isSpent || this.#left > RESETS_RESERVED) return false;
    this.#isSpent = true;
    return true;
  }
}

const TIMEOUT_UNIT_MS: Readonly<Record<string, number>> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };
const TIMER_MS_MAX = 2 ** 31 - 1;

function dropEndlessTimeout(_stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
  const match = /^(\d{1,8})([HMSmun])$/.exec(String(headers['grpc-timeout'] ?? ''));
  if (match && Number(match[1]) * (TIMEOUT_UNIT_MS[match[2] as string] as number) > TIMER_MS_MAX) {
    delete headers['grpc-timeout'];
  }
}

function isNodeAtLeast(major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = process.versions.node.split('.').map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}
