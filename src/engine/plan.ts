// What the engine asks native to compute. A plan says the whole: it replaces the one before it, and native repeats it
// step after step until the next. Its bytes are addon/plan-bytes.ts; nothing here decides anything: scheduler.ts does.

import type { Placement } from '../kv/cache.js';
import type { EngineRequest } from './types.js';

/** What a sequence is to compute. */
export interface SequenceDefinition
  extends Pick<
    EngineRequest,
    'promptTokens' | 'numChoices' | 'sampling' | 'stop' | 'reasoning' | 'logprobs' | 'topLogprobs' | 'cache'
  > {
  readonly sequence: number;
  /** The last tokens of promptTokens, which it generated itself before it had to leave an earlier plan. */
  readonly numGenerated: number;
  /** Prompt and output together end here. */
  readonly contextTokens: number;
  /** null: the model has none. */
  readonly eosToken: number | null;
}

/** What native must know of a sequence; sent in the first plan that names it. */
export interface PlannedSequence extends SequenceDefinition {
  readonly placement: Placement;
}

export interface PlanEntry {
  readonly sequence: number;
  /** Most prompt rows of it in one step; 0: no limit. */
  readonly maxChunk: number;
  /** One more position whose point is to be taken; 0: none. */
  readonly point: number;
}

export interface Plan {
  /** Grows by one with each plan. */
  readonly number: number;
  /** Most rows of one step. */
  readonly stepTokens: number;
  readonly entries: readonly PlanEntry[];
  readonly definitions: readonly PlannedSequence[];
}
