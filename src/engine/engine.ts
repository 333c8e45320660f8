// The engine is this page: requests come in, a turn brings facts and wishes together into a plan, events go out. Policy
// is in scheduler.ts, mechanism behind Runner. One thread; nothing blocks; between two turns native repeats the
// standing plan.

import { Failure } from '../base/failures.js';
import { KvCache } from '../kv/cache.js';
import type { ChainHasher } from '../kv/chain-hash.js';
import type { PointMode } from '../kv/points.js';
import type { CacheUse, PromptCache } from '../kv/types.js';
import { Rates } from './rates.js';
import { NO_MEMORY, type Report } from './reports.js';
import type { Runner } from './runner.js';
import { Scheduler, type Verdict } from './scheduler.js';
import type { Engine, EngineEvent, EngineLoad, EngineRequest, GeneratedToken, StartedRequest } from './types.js';

export interface EngineConfig {
  /** Prompt and output together. */
  readonly contextTokens: number;
  /** null: the model has none. */
  readonly eosToken: number | null;
  readonly maxRunning: number;
  readonly maxWaiting: number;
  /** Rows of a step without decoders. */
  readonly stepTokens?: number;
  /** Prompt rows beside decoders. */
  readonly mixedPrefillTokens?: number;
  readonly cache: CacheConfig;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  /** Milliseconds since 1970. */
  readonly wallNow?: () => number;
}

export interface CacheConfig {
  /** Blocks of 128 tokens in RAM; no more than the runner has. */
  readonly numSlots: number;
  /** Rows and points that stay in RAM when no request holds them. */
  readonly keptBytesMax: number;
  readonly mode: PointMode;
  /** (window - 1) x layers. */
  readonly replayTokens: number;
  /** Until the disk is there: rooted in nothing that outlives the process. */
  readonly hasher: ChainHasher;
}

/** One request between start and its last event. */
interface Live {
  readonly request: EngineRequest;
  readonly onAbort: () => void;
  choicesLeft: number;
  /** To be computed, as seen at acceptance. */
  readonly missTokens: number;
  /** As last told; 0 once admitted. */
  position: number;
  /** null while waiting for its first place. */
  admittedMs: number | null;
  /** Of the prompt, as last told. A preempted one may do some of it again. */
  promptDone: number;
}

// 512 rows are where matrix products stop getting faster; 128 beside decoders keep the pause between two tokens near
// that of a few decode steps. Start values until bench/engine says better.
const STEP_TOKENS = 512;
const MIXED_PREFILL_TOKENS = 128;
/** QUEUE_FULL never asks a client to stay away longer than this. */
const RETRY_AFTER_MS_MAX = 60_000;

export class NanduEngine implements Engine {
  readonly #runner: Runner;
  readonly #config: EngineConfig;
  readonly #scheduler: Scheduler;
  readonly #cache: KvCache;
  readonly #kvBlocks: number;
  readonly #now: () => number;
  readonly #rates = new Rates();
  readonly #live = new Map<number, Live>();
  #cancelled: number[] = [];
  #turn: NodeJS.Immediate | null = null;
  #numStarted = 0;
  /** Positions in the queue may be others than last told. */
  #queueMoved = false;
  #draining: { readonly done: Promise<void>; readonly resolve: () => void } | null = null;
  #closed: Promise<void> | null = null;

  constructor(runner: Runner, config: EngineConfig) {
    this.#runner = runner;
    this.#config = config;
    this.#now = config.now ?? (() => performance.now());
    const { kvBlocksLimit, kvBlockBytes } = runner.stats();
    this.#kvBlocks = Math.min(config.cache.numSlots, kvBlocksLimit);
    this.#cache = new KvCache({
      ...config.cache,
      numSlots: this.#kvBlocks,
      // Without compressed layers blocks are empty; at no bytes at all they would stay although nothing may.
      blockBytes: Math.max(1, kvBlockBytes),
      releasePoint: (point) => runner.releasePoint(point),
      onChange: () => this.#requestTurn(),
      now: this.#now,
      wallNow: config.wallNow ?? Date.now,
      prefillTokensPerSecond: () => this.#rates.prefillSpeed,
    });
    const limits = {
      maxRunning: config.maxRunning,
      maxWaiting: config.maxWaiting,
      kvBlocks: this.#kvBlocks,
      stepTokens: config.stepTokens ?? STEP_TOKENS,
      mixedPrefillTokens: config.mixedPrefillTokens ?? MIXED_PREFILL_TOKENS,
    };
    this.#scheduler = new Scheduler(limits, this.#cache);
    this.#rates.sample(this.#now(), runner.stats());
    runner.onWake = () => this.#onTurn();
  }

  start(request: EngineRequest): StartedRequest {
    if (this.#draining || this.#closed) throw new Failure('DRAINING', 'the server is shutting down');
    const id = this.#numStarted + 1;
    const { position, cover } = this.#accept(id, request);
    this.#numStarted = id;
    const onAbort = (): void => {
      this.#cancelled.push(id);
      this.#requestTurn();
    };
    this.#queueMoved = true;
    const missTokens = cover.promptTokens - cover.hitLiveTokens - cover.hitMemoryTokens - cover.hitDiskTokens;
    const start = { choicesLeft: request.numChoices, missTokens, position, admittedMs: null, promptDone: -1 };
    this.#live.set(id, { request, onAbort, ...start });
    if (request.signal.aborted) onAbort();
    else request.signal.addEventListener('abort', onAbort, { once: true });
    this.#requestTurn();
    return { queuePosition: position, cover };
  }

  get cache(): PromptCache {
    return this.#cache;
  }

  /** For whoever opens the disk. */
  get kvCache(): KvCache {
    return this.#cache;
  }

  load(): EngineLoad {
    if (!this.#closed && this.#rates.isDue(this.#now())) this.#rates.sample(this.#now(), this.#runner.stats());
    const { prefill, decode } = this.#rates.perSecond();
    const waiting = [...this.#live.values()].filter((live) => live.admittedMs === null);
    return {
      running: this.#live.size - waiting.length,
      waiting: waiting.length,
      maxRunning: this.#config.maxRunning,
      maxWaiting: this.#config.maxWaiting,
      waitingTokens: waiting.reduce((sum, { missTokens }) => sum + missTokens, 0),
      expectedWaitMs: this.#expectedWaitMs(),
      decodeTokensPerSecond: decode,
      prefillTokensPerSecond: prefill,
      prefillSpeed: this.#rates.prefillSpeed,
    };
  }

  drain(): Promise<void> {
    if (!this.#draining) {
      let resolve = (): void => {};
      const done = new Promise<void>((settle) => {
        resolve = settle;
      });
      this.#draining = { done, resolve };
      if (this.#live.size === 0) resolve();
    }
    return this.#draining.done;
  }

  close(): Promise<void> {
    if (!this.#closed) {
      if (this.#turn) clearImmediate(this.#turn);
      this.#closed = this.#runner.close();
      for (const id of [...this.#live.keys()]) this.#fail(id, new Failure('DRAINING', 'the server is shutting down'));
    }
    return this.#closed;
  }

  /** Something arrived, ended or ran out. */
  #onTurn(): void {
    if (this.#closed) return;
    const reports = this.#runner.drain();
    for (const report of reports) this.#scheduler.apply(report);
    const cancelled = this.#cancelled;
    this.#cancelled = [];
    for (const id of cancelled) this.#scheduler.cancel(id);
    const plan = this.#scheduler.plan();
    if (plan) this.#runner.submit(plan);
    for (const { sequence, placement } of plan?.definitions ?? []) this.#admitted(sequence, placement.startTokens);
    for (const { id, done, total } of this.#scheduler.restoring()) this.#restoring(id, done, total);
    if (cancelled.length > 0) this.#queueMoved = true;
    for (const report of reports) this.#publish(report);
    for (const id of cancelled) this.#fail(id, this.#reasonOfAbort(id));
    this.#publishQueue();
    this.#scheduler.endTurn();
    if (!this.#closed && this.#rates.isDue(this.#now())) this.#rates.sample(this.#now(), this.#runner.stats());
  }

  /** Once for whatever the event loop brings in this round: a burst of arrivals makes one plan. */
  #requestTurn(): void {
    if (this.#closed) return;
    this.#turn ??= setImmediate(() => {
      this.#turn = null;
      this.#onTurn();
    });
  }

  /** Throws why the request cannot be taken. */
  #accept(id: number, request: EngineRequest): Extract<Verdict, { t: 'accepted' }> {
    const { contextTokens, eosToken } = this.#config;
    const promptTokens = request.promptTokens.length;
    if (promptTokens >= contextTokens) {
      throw tooLong(promptTokens, contextTokens, `the prompt has ${promptTokens} tokens, the context ${contextTokens}`);
    }
    const verdict = this.#scheduler.add(
      { ...request, sequence: id, numGenerated: 0, contextTokens, eosToken },
      request.priority,
    );
    if (verdict.t === 'accepted') return verdict;
    if (verdict.t === 'never-fits') {
      const holds = this.#kvBlocks;
      const message = `prompt and max_tokens need ${verdict.blocks} KV blocks of 128 tokens, the server has ${holds}`;
      throw tooLong(promptTokens, contextTokens, message);
    }
    const expectedWaitMs = Math.ceil(this.#expectedWaitMs());
    throw new Failure('QUEUE_FULL', `${this.#scheduler.numWaiting} requests wait already`, {
      metadata: { queue_depth: String(this.#scheduler.numWaiting), expected_wait_ms: String(expectedWaitMs) },
      retryAfterMs: Math.min(Math.max(expectedWaitMs, 1000), RETRY_AFTER_MS_MAX),
    });
  }

  #admitted(id: number, startTokens: number): void {
    const live = this.#live.get(id);
    this.#queueMoved = true;
    if (!live) return;
    live.position = 0;
    live.admittedMs ??= this.#now();
    this.#prefilled(live, startTokens);
  }

  #restoring(id: number, done: number, total: number): void {
    const live = this.#live.get(id);
    if (!live || live.admittedMs !== null) return;
    this.#queueMoved = true;
    live.position = 0;
    live.admittedMs = this.#now();
    this.#emit(live, { t: 'restore', done, total });
  }

  #prefilled(live: Live, promptDone: number): void {
    const total = live.request.promptTokens.length;
    const done = Math.min(promptDone, total); // what it generated before it was preempted counts as prompt for native
    if (done <= live.promptDone) return;
    live.promptDone = done;
    this.#emit(live, { t: 'prefill', done, total });
  }

  #publish(report: Report): void {
    const live = this.#live.get(report.sequence);
    if (!live) return; // cancelled: native had not heard yet
    switch (report.t) {
      case 'tokens': {
        const tokens = live.request.logprobs ? report.tokens : report.tokens.map(withoutLogprob);
        this.#emit(live, { t: 'tokens', choice: report.choice, tokens });
        break;
      }
      case 'progress':
        this.#prefilled(live, report.promptDone);
        break;
      case 'ended':
        this.#emit(live, { t: 'ended', choice: report.choice, ...report.end });
        live.choicesLeft -= 1;
        if (live.choicesLeft > 0 || live.request.signal.aborted) break; // aborted: its 'failed' follows
        if (live.admittedMs !== null) this.#rates.served(this.#now() - live.admittedMs);
        this.#finish(report.sequence, live, { t: 'finished', use: this.#scheduler.useOf(report.sequence) as CacheUse });
        break;
      case 'failed':
        if (live.request.signal.aborted) break;
        this.#fail(
          report.sequence,
          new Failure(report.code === NO_MEMORY ? 'MEMORY_EXHAUSTED' : 'ENGINE_FAILURE', report.message),
        );
        break;
      case 'point':
      case 'released':
        break;
    }
  }

  #publishQueue(): void {
    if (!this.#queueMoved) return;
    this.#queueMoved = false;
    for (const [id, position] of this.#scheduler.positions()) {
      const live = this.#live.get(id);
      if (!live || live.admittedMs !== null || live.position === position) continue; // or preempted: it has begun
      live.position = position;
      this.#emit(live, { t: 'queued', position });
    }
  }

  #emit(live: Live, event: EngineEvent): void {
    if (!live.request.signal.aborted) live.request.onEvent(event);
  }

  #reasonOfAbort(id: number): Failure {
    const reason: unknown = this.#live.get(id)?.request.signal.reason;
    return reason instanceof Failure ? reason : new Failure('CANCELLED_BY_CALLER', 'the caller went away');
  }

  #fail(id: number, failure: Failure): void {
    const live = this.#live.get(id);
    if (live) this.#finish(id, live, { t: 'failed', failure, use: this.#scheduler.useOf(id) });
  }

  /** The last event; nothing of the request stays. */
  #finish(id: number, live: Live, event: EngineEvent): void {
    this.#live.delete(id);
    this.#scheduler.account(id);
    live.request.signal.removeEventListener('abort', live.onAbort);
    live.request.onEvent(event);
    if (this.#live.size === 0) this.#draining?.resolve();
  }

  /** Of a new request of normal priority: the requests ahead of it leave at the mean pace of the last ones. */
  #expectedWaitMs(): number {
    const waiting = this.#scheduler.numWaiting;
    const { maxRunning } = this.#config;
    if (waiting === 0 && this.#scheduler.numRunning < maxRunning) return 0;
    return ((waiting + 1) * (this.#rates.serviceMs ?? this.#longestRunMs())) / maxRunning;
  }

  #longestRunMs(): number {
    const now = this.#now();
    let longest = 0;
    for (const { admittedMs } of this.#live.values())
      if (admittedMs !== null) longest = Math.max(longest, now - admittedMs);
    return longest;
  }
}

function tooLong(promptTokens: number, contextTokens: number, message: string): Failure {
  return new Failure('CONTEXT_LENGTH_EXCEEDED', message, {
    metadata: { prompt_tokens: String(promptTokens), context_length: String(contextTokens) },
  });
}

/** The bytes hold 0 where nothing was asked for. */
function withoutLogprob(token: GeneratedToken): GeneratedToken {
  return { ...token, logprob: Number.NaN };
}
