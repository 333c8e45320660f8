// Requests for tests: every value filled in, any of them replaceable.

import type { CacheConfig } from '../../src/engine/engine.js';
import type { PlannedSequence, SequenceDefinition } from '../../src/engine/plan.js';
import type { EngineEvent, EngineRequest, Sampling, StopConditions } from '../../src/engine/types.js';
import type { Placement } from '../../src/kv/cache.js';
import { ChainHasher } from '../../src/kv/chain-hash.js';
import { blocksNeeded } from '../../src/kv/lease.js';
import type { CacheWishes } from '../../src/kv/types.js';

export const greedy: Sampling = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  repetitionPenalty: 1,
  seed: 0,
  logitBias: new Map(),
};

export const unlimited: StopConditions = { maxTokens: 16, minTokens: 0, sequences: [], tokenIds: [], ignoreEos: true };

/** Read and write, in the default scope. */
export const useCache: CacheWishes = { read: true, write: true, scope: '', boundaries: [] };

/** Of an engine without a disk, in which nothing stays that no request holds. */
export const keepsNothing: CacheConfig = {
  numSlots: Number.MAX_SAFE_INTEGER,
  keptBytesMax: 0,
  mode: 'periodic',
  replayTokens: 256,
  hasher: new ChainHasher(new Uint8Array(32).fill(1), new Uint8Array(32).fill(2), 'tenant'),
};

/** A definition of `promptTokens` ids 1, 2, 3 ...; greedy, 16 tokens, one choice. */
export function definition(
  sequence: number,
  promptTokens: number,
  changes: Partial<Omit<SequenceDefinition, 'stop'>> & { stop?: Partial<StopConditions> } = {},
): SequenceDefinition {
  return {
    sequence,
    numGenerated: 0,
    promptTokens: Uint32Array.from({ length: promptTokens }, (_, index) => index + 1),
    numChoices: 1,
    sampling: greedy,
    reasoning: { startsInReasoning: false, endToken: null, maxTokens: null },
    logprobs: false,
    topLogprobs: 0,
    cache: useCache,
    contextTokens: 4096,
    eosToken: null,
    ...changes,
    stop: { ...unlimited, ...changes.stop },
  };
}

/** A definition whose prompt begins like no other's. */
export const distinct: typeof definition = (sequence, promptTokens, changes) =>
  definition(sequence, promptTokens, {
    promptTokens: Uint32Array.from({ length: promptTokens }, (_, index) => sequence * 10_000 + index),
    ...changes,
  });

/** A definition with a place of its own, the slots 0, 1, 2 ... unless others are named. */
export function planned(
  sequence: SequenceDefinition,
  { slots, ...placement }: Partial<Placement> = {},
): PlannedSequence {
  const { promptTokens, stop, contextTokens, numChoices } = sequence;
  const totalTokens = Math.min(promptTokens.length + stop.maxTokens, contextTokens);
  const count = blocksNeeded(promptTokens.length, totalTokens, numChoices);
  return {
    ...sequence,
    placement: {
      slots: slots ?? Array.from({ length: count }, (_, slot) => slot),
      startPoint: 0,
      startTokens: 0,
      frozenTokens: 0,
      points: [],
      keepsEnds: false,
      ...placement,
    },
  };
}

/** A request with the events it got so far, and a promise for the last one. */
export function request(
  changes: Partial<Omit<EngineRequest, 'stop' | 'onEvent' | 'signal' | 'promptTokens'>> & {
    readonly prompt?: readonly number[];
    readonly stop?: Partial<StopConditions>;
    readonly onEvent?: (event: EngineEvent) => void;
  } = {},
): { request: EngineRequest; events: EngineEvent[]; over: Promise<EngineEvent>; abort: (reason?: unknown) => void } {
  const { prompt = [1, 2, 3], stop, onEvent, ...rest } = changes;
  const events: EngineEvent[] = [];
  const controller = new AbortController();
  let settle = (_event: EngineEvent): void => {};
  const over = new Promise<EngineEvent>((resolve) => {
    settle = resolve;
  });
  return {
    request: {
      promptTokens: Uint32Array.from(prompt),
      numChoices: 1,
      sampling: greedy,
      reasoning: { startsInReasoning: false, endToken: null, maxTokens: null },
      logprobs: false,
      topLogprobs: 0,
      priority: 'normal',
      cache: useCache,
      ...rest,
      stop: { ...unlimited, ...stop },
      signal: controller.signal,
      onEvent: (event) => {
        events.push(event);
        onEvent?.(event);
        if (event.t === 'finished' || event.t === 'failed') settle(event);
      },
    },
    events,
    over,
    abort: (reason) => controller.abort(reason),
  };
}

/** Ids of one choice's tokens, in order. */
export function tokensOf(events: readonly EngineEvent[], choice = 0): number[] {
  return events.flatMap((event) =>
    event.t === 'tokens' && event.choice === choice ? event.tokens.map((token) => token.id) : [],
  );
}
