// A sequence: one request's generation in progress, all its choices together, and the states it passes.

import type { Lease } from '../kv/lease.js';
import type { SequenceDefinition } from './plan.js';
import type { Priority } from './types.js';

/**
 *   waiting ──admit──▶ restoring ──▶ prefill ──first token──▶ decode ──last choice over──▶ leaving ──released──▶ (forgotten)
 *     │ ▲ └──────────────────────────▲ │                                                     ▲
 *     │ └──restore failed──┘           └─────cancel, failure, end────────────────────────────┘
 *     └──cancel──▶ (forgotten)      restoring ──cancel──▶ leaving, forgotten once nothing is read any more
 *
 *   prefill, decode ──a higher class needs the room──▶ preempted ──released──▶ waiting, what it generated now being prompt
 *
 * From restoring to leaving it holds its slots and one of the running places; native knows it from prefill until `released`.
 */
export type SequenceState =
  | { readonly t: 'waiting' }
  | { readonly t: 'restoring' }
  | { readonly t: 'prefill'; readonly openChoices: Set<number>; promptDone: number }
  | { readonly t: 'decode'; readonly openChoices: Set<number> }
  /** It leaves the plan to come back; what it still generates until native hears of it counts. */
  | { readonly t: 'preempted'; readonly openChoices: Set<number> }
  /** isKnown: native has it and will say when it is released. */
  | { readonly t: 'leaving'; readonly isKnown: boolean };

export interface Sequence {
  readonly id: number;
  readonly priority: Priority;
  /** As native knows it, or will. */
  definition: SequenceDefinition;
  lease: Lease;
  state: SequenceState;
}

export function allChoices(definition: SequenceDefinition): Set<number> {
  return new Set(Array.from({ length: definition.numChoices }, (_, choice) => choice));
}
