// Events of the cache for those who follow it (routers): numbered without gaps, the newest kept, a snapshot for whoever
// comes new or falls behind. Nothing waits for a reader.

import { BLOCK_TOKENS } from './block.js';
import { bytesOf } from './chain-hash.js';
import type { HashKey } from './store.js';
import type { CacheEvent, CacheSubscription, CacheTier } from './types.js';

/** Block hashes on the wire are the first half of the chain hash. */
const WIRE_HASH_BYTES = 16;

/** `parent`: '' for the first block of a chain. `tokens`: none where they are not known any more. */
export function stored(
  tier: CacheTier,
  key: HashKey,
  { parent, scopeTag }: { readonly parent: HashKey; readonly scopeTag: string },
  tokens: readonly number[] = [],
): CacheEvent {
  const [blockHash, parentHash] = [wireHash(key), wireHash(parent)];
  return { t: 'stored', tier, blockHash, parentHash, tokens, scopeTag: bytesOf(scopeTag) };
}

/** A segment's blocks on the disk, the first behind `parent`; `tokens`: those of its prefix, for readers that were not told yet. */
export function storedOnDisk(
  keys: readonly HashKey[],
  { parent, fromToken, scope }: { readonly parent: HashKey; readonly fromToken: number; readonly scope: string },
  tokens: Uint32Array = new Uint32Array(0),
): CacheEvent[] {
  return keys.map((key, index) => {
    const before = keys[index - 1] ?? (fromToken === 0 ? '' : parent);
    const from = fromToken + index * BLOCK_TOKENS;
    return stored('disk', key, { parent: before, scopeTag: scope }, [...tokens.subarray(from, from + BLOCK_TOKENS)]);
  });
}

export function removed(tier: CacheTier, key: HashKey, scopeTag: string): CacheEvent {
  return { t: 'removed', tier, blockHash: wireHash(key), scopeTag: bytesOf(scopeTag) };
}

function wireHash(key: HashKey): Uint8Array {
  return bytesOf(key.slice(0, WIRE_HASH_BYTES));
}

/** A reader that is further behind than this gets a snapshot: some 20 MB, most of it tokens. */
const KEPT_EVENTS = 16_384;

type Listener = (firstSequence: number, events: readonly CacheEvent[], reset: boolean) => void;

export class EventLog {
  #events: CacheEvent[] = [];
  /** Of the first event in `#events`. */
  #firstSequence: number;
  #pending: CacheEvent[] = [];
  readonly #listeners = new Set<Listener>();
  readonly #snapshot: () => CacheEvent[];

  /** @param before numbers up to this one are another process's: a reader who comes with one of them gets a snapshot. */
  constructor(snapshot: () => CacheEvent[], before: number) {
    this.#snapshot = snapshot;
    this.#firstSequence = before + 1;
  }

  /** Cheap when nobody listens. */
  add(event: CacheEvent): void {
    if (this.#pending.length === 0) queueMicrotask(() => this.#publish());
    this.#pending.push(event);
  }

  watch(afterSequence: number, onEvents: Listener): CacheSubscription {
    this.#publish();
    const next = this.#firstSequence + this.#events.length;
    const isKnown = afterSequence + 1 >= this.#firstSequence && afterSequence < next;
    if (afterSequence > 0 && isKnown) {
      const missed = this.#events.slice(afterSequence + 1 - this.#firstSequence);
      if (missed.length > 0) onEvents(afterSequence + 1, missed, false);
    } else {
      // The snapshot stands for everything up to the newest number; its own events have none.
      this.#beginAnew([onEvents], afterSequence > 0);
    }
    this.#listeners.add(onEvents);
    return { close: () => this.#listeners.delete(onEvents) };
  }

  /** What there is has changed by more than was told: every reader begins anew. */
  announce(): void {
    this.#publish();
    if (this.#listeners.size === 0) return;
    this.#beginAnew([...this.#listeners], true);
  }

  #beginAnew(listeners: readonly Listener[], reset: boolean): void {
    const events = this.#snapshot();
    const first = this.#firstSequence + this.#events.length - events.length;
    for (const listener of listeners) listener(first, events, reset);
  }

  #publish(): void {
    if (this.#pending.length === 0) return;
    const events = this.#pending;
    this.#pending = [];
    const first = this.#firstSequence + this.#events.length;
    for (const event of events) this.#events.push(event); // one by one: a purge may bring a million
    const surplus = this.#events.length - KEPT_EVENTS;
    if (surplus > KEPT_EVENTS / 4) {
      this.#events = this.#events.slice(surplus);
      this.#firstSequence += surplus;
    }
    for (const listener of [...this.#listeners]) listener(first, events, false);
  }
}
