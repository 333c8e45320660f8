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
 * From restoring to leaving it holds its slots and one of the running places; native knows it from prefill until `released`.
 */
export type SequenceState =
  | { readonly t: 'waiting' }
  | { readonly t: 'restoring' }
  | { readonly t: 'prefill'; readonly openChoices: Set<number>; promptDone: number }
  | { readonly t: 'decode'; readonly openChoices: Set<number> }
  /** isKnown: native has it and will say when it is released. */
  | { readonly t: 'leaving'; readonly isKnown: boolean };

export interface Sequence {
  readonly id: number;
  readonly priority: Priority;
  readonly definition: SequenceDefinition;
  readonly lease: Lease;
  state: SequenceState;
}

export function allChoices(definition: SequenceDefinition): Set<number> {
  return new Set(Array.from({ length: definition.numChoices }, (_, choice) => choice));
}
