// Requests for tests: every value filled in, any of them replaceable.

import type { SequenceDefinition } from '../../src/engine/plan.js';
import type { EngineEvent, EngineRequest, Sampling, StopConditions } from '../../src/engine/types.js';

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

/** A definition of `promptTokens` ids 1, 2, 3 ...; greedy, 16 tokens, one choice. */
export function definition(
  sequence: number,
  promptTokens: number,
  changes: Partial<Omit<SequenceDefinition, 'stop'>> & { stop?: Partial<StopConditions> } = {},
): SequenceDefinition {
  return {
    sequence,
    promptTokens: Uint32Array.from({ length: promptTokens }, (_, index) => index + 1),
    numChoices: 1,
    sampling: greedy,
    reasoning: { startsInReasoning: false, endToken: null, maxTokens: null },
    logprobs: false,
    topLogprobs: 0,
    contextTokens: 4096,
    eosToken: null,
    ...changes,
    stop: { ...unlimited, ...changes.stop },
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
      cache: { read: true, write: true, scope: '', boundaries: [] },
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
