// What the engine asks of whatever computes steps: the addon (addon/runner.ts) or the fake one of the tests.

import type { Plan } from './plan.js';
import type { Report } from './reports.js';

/** Counters since open. */
export interface RunnerStats {
  /** Newest plan in force. */
  readonly plan: number;
  readonly steps: number;
  readonly prefillTokens: number;
  readonly decodeTokens: number;
  /** Inside steps, the share of prompt rows among all rows of each. */
  readonly prefillNs: number;
  /** Alive, choices not counted. */
  readonly sequences: number;
  /** Slots of 128 tokens that have memory. */
  readonly kvBlocksUsed: number;
  readonly kvBlocksLimit: number;
  readonly kvBlockBytes: number;
  /** Rings and carries of living sequences. */
  readonly privateBytes: number;
  /** Points in RAM. */
  readonly pointBytes: number;
  /** Matrix products by kernel path. */
  readonly paths: readonly number[];
}

export interface Runner {
  /** Called, never from inside another method, when reports wait. Set once, before the first submit. */
  onWake: () => void;
  /** Replaces the standing plan. Copies it; never blocks. Throws on a malformed plan, which is a bug. */
  submit(plan: Plan): void;
  /** Everything reported since the last call, in order. */
  drain(): Report[];
  stats(): RunnerStats;
  /** Native may forget a point that it reported. */
  releasePoint(point: number): void;
  /** Stops at once and frees everything. Safe twice. */
  close(): Promise<void>;
}
