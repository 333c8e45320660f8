// What the API layer asks of the engine and what comes back. Plain data: no gRPC, no native types.

import type { Failure } from '../base/failures.js';
import type { CacheCover, CacheUse, CacheWishes, PromptCache } from '../kv/types.js';

/** Sampling, every value filled in. */
export interface Sampling {
  readonly temperature: number;
  /** 0: off. */
  readonly topK: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly minP: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** 1: off. */
  readonly repetitionPenalty: number;
  /** 0 .. 2^53 - 1. */
  readonly seed: number;
  readonly logitBias: ReadonlyMap<number, number>;
}

export interface StopConditions {
  /** 0: compute the prompt, generate nothing. */
  readonly maxTokens: number;
  readonly minTokens: number;
  /** UTF-8 bytes of each stop sequence. */
  readonly sequences: readonly Uint8Array[];
  readonly tokenIds: readonly number[];
  readonly ignoreEos: boolean;
}

export interface ReasoningLimits {
  /** The prompt ends inside an open reasoning part. */
  readonly startsInReasoning: boolean;
  /** Token that closes it; null: the model has none. */
  readonly endToken: number | null;
  /** null: no limit. */
  readonly maxTokens: number | null;
}

/** Order of admission: a higher one first, then first come. */
export type Priority = 'background' | 'normal' | 'interactive';

export interface EngineRequest {
  readonly promptTokens: Uint32Array;
  /** 1..8; they share the prompt. */
  readonly numChoices: number;
  readonly sampling: Sampling;
  readonly stop: StopConditions;
  readonly reasoning: ReasoningLimits;
  readonly logprobs: boolean;
  readonly topLogprobs: number;
  readonly priority: Priority;
  readonly cache: CacheWishes;
  /** Deadline, client hang-up and cancellation are all this one signal; work stops within one step. */
  readonly signal: AbortSignal;
  /** Called in order, never after 'finished' or 'failed', never inside start(). Must not throw. */
  readonly onEvent: (event: EngineEvent) => void;
}

export interface GeneratedToken {
  readonly id: number;
  /** NaN when not asked for. */
  readonly logprob: number;
  readonly top: readonly { readonly id: number; readonly logprob: number }[];
  readonly inReasoning: boolean;
}

export type StopMatch =
  | { readonly t: 'eos'; readonly tokenId: number }
  | { readonly t: 'token'; readonly tokenId: number }
  | { readonly t: 'sequence'; readonly index: number };

export type EngineEvent =
  | { readonly t: 'queued'; readonly position: number }
  /** Prompt tokens in place so far, hits in RAM included, and those in place when all is restored. */
  | { readonly t: 'restore'; readonly done: number; readonly total: number }
  /** Prompt tokens in place, hits and computed, of the whole prompt. */
  | { readonly t: 'prefill'; readonly done: number; readonly total: number }
  | { readonly t: 'tokens'; readonly choice: number; readonly tokens: readonly GeneratedToken[] }
  | {
      readonly t: 'ended';
      readonly choice: number;
      readonly reason: 'stop' | 'length' | 'context';
      readonly match: StopMatch | null;
      readonly completionTokens: number;
      readonly reasoningTokens: number;
    }
  | { readonly t: 'finished'; readonly use: CacheUse }
  /** `use` null: it ended before anything was restored or computed. */
  | { readonly t: 'failed'; readonly failure: Failure; readonly use: CacheUse | null };

export interface EngineLoad {
  readonly running: number;
  readonly waiting: number;
  readonly maxRunning: number;
  readonly maxWaiting: number;
  /** Prompt tokens of waiting requests that must be computed. */
  readonly waitingTokens: number;
  readonly expectedWaitMs: number;
  readonly decodeTokensPerSecond: number;
  readonly prefillTokensPerSecond: number;
  /** Prompt tokens a second of computing; 0: not known yet. */
  readonly prefillSpeed: number;
}

export interface StartedRequest {
  /** Requests ahead in the queue at acceptance; 0: runs in the next step. */
  readonly queuePosition: number;
  /** What the cache held for the prompt at acceptance. */
  readonly cover: CacheCover;
}

/** The engine as the API sees it; the real one is engine.ts, the fake one lives in test/. */
export interface Engine {
  /**
   * Accepts a request or throws Failure: QUEUE_FULL, DRAINING, CONTEXT_LENGTH_EXCEEDED (can never fit the KV budget).
   * An aborted signal ends the request with no further event but 'failed' carrying the signal's reason if that is a
   * Failure.
   */
  start(request: EngineRequest): StartedRequest;
  readonly cache: PromptCache;
  load(): EngineLoad;
  /** No new requests; resolves when the last one has ended. */
  drain(): Promise<void>;
  /** Stops everything at once; running requests fail. Safe twice. */
  close(): Promise<void>;
}
