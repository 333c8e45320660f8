// An Engine without a model: admits, prefills and "samples" by rule, one step at a time, and counts everything. What it
// writes is a script or a function of prompt, seed and choice; where it stands still is up to the test.

import { Failure } from '../../src/base/failures.js';
import type {
  Engine,
  EngineEvent,
  EngineLoad,
  EngineRequest,
  GeneratedToken,
  StartedRequest,
  StopMatch,
} from '../../src/engine/types.js';
import type { CacheCover } from '../../src/kv/types.js';
import { FakeCache } from './fake-cache.js';

export interface FakeEngineOptions {
  readonly vocabSize: number;
  readonly contextTokens: number;
  readonly eosId: number | null;
  readonly maxRunning?: number;
  readonly maxWaiting?: number;
  /** Prompt tokens a step. */
  readonly chunk?: number;
  /** Pause between two steps; 0: as fast as the event loop turns. */
  readonly stepMs?: number;
  /** Bytes of a token, for stop sequences. */
  readonly tokenBytes?: (id: number) => Uint8Array;
}

type Phase = 'prefill' | 'decode';

interface Live {
  readonly request: EngineRequest;
  readonly cover: CacheCover;
  readonly onAbort: () => void;
  isAdmitted: boolean;
  isRestored: boolean;
  promptDone: number;
  readonly choices: { numTokens: number; numReasoning: number; isOpen: boolean; bytes: Buffer; inReasoning: boolean }[];
}

export class FakeEngine implements Engine {
  readonly cache = new FakeCache();
  /** Tokens to write, for every choice; then EOS for ever. null: computed. */
  script: readonly number[] | null = null;
  /** No step goes beyond the beginning of this phase. */
  holdBefore: Phase | 'admission' | null = null;
  /** The next token report becomes this failure. */
  failWith: Failure | null = null;
  /** As load() says. */
  prefillTokensPerSecond = 0;
  numStarted = 0;
  numAborted = 0;
  lastRequest: EngineRequest | null = null;
  readonly #options: Required<Omit<FakeEngineOptions, 'tokenBytes' | 'eosId'>> & FakeEngineOptions;
  readonly #live = new Set<Live>();
  #timer: NodeJS.Immediate | NodeJS.Timeout | null = null;
  #draining: (() => void) | null = null;
  #isClosed = false;

  constructor(options: FakeEngineOptions) {
    this.#options = { maxRunning: 16, maxWaiting: 256, chunk: 512, stepMs: 0, ...options };
  }

  get numLive(): number {
    return this.#live.size;
  }

  /** Goes on from where holdBefore stopped it. */
  release(): void {
    this.holdBefore = null;
    this.#schedule();
  }

  start(request: EngineRequest): StartedRequest {
    if (this.#draining || this.#isClosed) throw new Failure('DRAINING', 'the server is shutting down');
    const { maxRunning, maxWaiting } = this.#options;
    if (this.#live.size >= maxRunning + maxWaiting) {
      throw new Failure('QUEUE_FULL', `${maxWaiting} requests wait already`, {
        metadata: { queue_depth: String(maxWaiting), expected_wait_ms: '1500' },
        retryAfterMs: 1500,
      });
    }
    const cover = this.cache.cover(request.promptTokens, request.cache);
    const live: Live = {
      request,
      cover,
      onAbort: () => setImmediate(() => this.#abort(live)),
      isAdmitted: false,
      isRestored: cover.hitDiskTokens === 0,
      promptDone: 0,
      choices: Array.from({ length: request.numChoices }, () => ({
        numTokens: 0,
        numReasoning: 0,
        isOpen: true,
        bytes: Buffer.alloc(0),
        inReasoning: request.reasoning.startsInReasoning,
      })),
    };
    this.#live.add(live);
    this.numStarted += 1;
    this.lastRequest = request;
    if (request.signal.aborted) live.onAbort();
    else request.signal.addEventListener('abort', live.onAbort, { once: true });
    this.#schedule();
    return { queuePosition: Math.max(0, this.#live.size - maxRunning), cover };
  }

  load(): EngineLoad {
    const running = [...this.#live].filter(({ isAdmitted }) => isAdmitted).length;
    const waiting = [...this.#live].filter(({ isAdmitted }) => !isAdmitted);
    return {
      running,
      waiting: waiting.length,
      maxRunning: this.#options.maxRunning,
      maxWaiting: this.#options.maxWaiting,
      waitingTokens: waiting.reduce((sum, { request }) => sum + request.promptTokens.length, 0),
      expectedWaitMs: waiting.length * 100,
      decodeTokensPerSecond: 0,
      prefillTokensPerSecond: this.prefillTokensPerSecond,
      prefillSpeed: this.prefillTokensPerSecond,
    };
  }

  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.#draining = resolve;
      if (this.#live.size === 0) resolve();
    });
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    if (this.#timer) clearTimeout(this.#timer as NodeJS.Timeout);
    for (const live of [...this.#live]) this.#fail(live, new Failure('DRAINING', 'closed'));
  }

  #schedule(): void {
    if (this.#timer || this.#isClosed) return;
    const run = (): void => {
      this.#timer = null;
      if (this.#step()) this.#schedule();
    };
    const { stepMs } = this.#options;
    this.#timer = stepMs === 0 ? setImmediate(run) : setTimeout(run, stepMs);
  }

  /** False when there is nothing that may move. */
  #step(): boolean {
    let hasMoved = false;
    let numRunning = [...this.#live].filter(({ isAdmitted }) => isAdmitted).length;
    for (const live of [...this.#live]) {
      const total = live.request.promptTokens.length;
      if (!live.isAdmitted) {
        if (this.holdBefore === 'admission' || numRunning >= this.#options.maxRunning) continue;
        live.isAdmitted = true;
        numRunning += 1;
        live.promptDone = hitTokens(live) - live.cover.hitDiskTokens;
        if (live.isRestored) this.#emit(live, { t: 'prefill', done: live.promptDone, total });
        else this.#emit(live, { t: 'restore', done: live.promptDone, total: hitTokens(live) });
        hasMoved = true;
      } else if (!live.isRestored) {
        live.isRestored = true;
        live.promptDone = hitTokens(live);
        this.#emit(live, { t: 'restore', done: live.promptDone, total: live.promptDone });
        this.#emit(live, { t: 'prefill', done: live.promptDone, total });
        hasMoved = true;
      } else if (live.promptDone < total) {
        if (this.holdBefore === 'prefill') continue;
        live.promptDone = Math.min(total, live.promptDone + this.#options.chunk);
        this.#emit(live, { t: 'prefill', done: live.promptDone, total });
        hasMoved = true;
      } else if (this.holdBefore !== 'decode') {
        this.#decode(live);
        hasMoved = true;
      }
    }
    let position = 1;
    for (const live of this.#live) if (!live.isAdmitted) this.#emit(live, { t: 'queued', position: position++ });
    return hasMoved;
  }

  #decode(live: Live): void {
    if (this.failWith) {
      this.#fail(live, this.failWith);
      return;
    }
    for (const index of live.choices.keys()) this.#decodeChoice(live, index);
    if (live.choices.some(({ isOpen }) => isOpen)) return;
    const { promptTokens, cache } = live.request;
    this.#end(live, { t: 'finished', use: this.cache.finish(promptTokens, cache, live.cover) });
  }

  #decodeChoice(live: Live, index: number): void {
    const choice = live.choices[index] as Live['choices'][number];
    if (!choice.isOpen) return;
    const { request } = live;
    const { maxTokens } = request.stop;
    if (choice.numTokens < maxTokens) {
      const token = this.#sample(live, index);
      choice.numTokens += 1;
      if (token.inReasoning) choice.numReasoning += 1;
      if (token.id === request.reasoning.endToken) choice.inReasoning = false;
      const match = this.#matchOf(live, choice, token);
      this.#emit(live, { t: 'tokens', choice: index, tokens: [token] });
      if (match) {
        this.#endChoice(live, index, 'stop', match);
        return;
      }
    }
    if (choice.numTokens >= maxTokens) this.#endChoice(live, index, 'length', null);
    else if (request.promptTokens.length + choice.numTokens >= this.#options.contextTokens) {
      this.#endChoice(live, index, 'context', null);
    }
  }

  #sample(live: Live, index: number): GeneratedToken {
    const { request } = live;
    const choice = live.choices[index] as Live['choices'][number];
    const { vocabSize, eosId } = this.#options;
    const computed =
      (request.sampling.seed + (request.promptTokens.at(-1) ?? 0) + index * 31 + choice.numTokens * 7) % vocabSize;
    const id = this.script ? (this.script[choice.numTokens] ?? eosId ?? 0) : computed;
    const top = Array.from({ length: request.topLogprobs }, (_, rank) => ({
      id: (id + rank) % vocabSize,
      logprob: -0.5 - rank,
    }));
    return { id, logprob: request.logprobs ? -0.5 : Number.NaN, top, inReasoning: choice.inReasoning };
  }

  #matchOf(live: Live, choice: Live['choices'][number], { id, inReasoning }: GeneratedToken): StopMatch | null {
    const { stop } = live.request;
    const bytes = this.#options.tokenBytes?.(id) ?? Buffer.alloc(0);
    choice.bytes = inReasoning ? choice.bytes : Buffer.concat([choice.bytes, bytes]);
    if (choice.numTokens < stop.minTokens) return null;
    if (id === this.#options.eosId && !stop.ignoreEos) return { t: 'eos', tokenId: id };
    if (stop.tokenIds.includes(id)) return { t: 'token', tokenId: id };
    const index = stop.sequences.findIndex((sequence) => {
      const at = choice.bytes.indexOf(sequence);
      return at >= 0 && at + sequence.length > choice.bytes.length - bytes.length;
    });
    return index < 0 ? null : { t: 'sequence', index };
  }

  #endChoice(live: Live, index: number, reason: 'stop' | 'length' | 'context', match: StopMatch | null): void {
    const choice = live.choices[index] as Live['choices'][number];
    choice.isOpen = false;
    const { numTokens: completionTokens, numReasoning: reasoningTokens } = choice;
    this.#emit(live, { t: 'ended', choice: index, reason, match, completionTokens, reasoningTokens });
  }

  #emit(live: Live, event: EngineEvent): void {
    if (!live.request.signal.aborted) live.request.onEvent(event);
  }

  #abort(live: Live): void {
    if (!this.#live.has(live)) return;
    this.numAborted += 1;
    const { reason } = live.request.signal;
    const failure = reason instanceof Failure ? reason : new Failure('CANCELLED_BY_CALLER', 'the caller went away');
    this.#fail(live, failure);
    this.#schedule();
  }

  #fail(live: Live, failure: Failure): void {
    this.#end(live, { t: 'failed', failure, use: null });
  }

  #end(live: Live, event: EngineEvent): void {
    this.#live.delete(live);
    live.request.signal.removeEventListener('abort', live.onAbort);
    live.request.onEvent(event);
    if (this.#live.size === 0) this.#draining?.();
  }
}

function hitTokens({ cover }: Live): number {
  return cover.hitLiveTokens + cover.hitMemoryTokens + cover.hitDiskTokens;
}
