// Prefixes that clients want kept on the disk: those in the index, and those that are queued or, after a start, not found yet.
// Remembered for the next process before they are answered.

import { Failure } from '../base/failures.js';
import { within } from '../base/within.js';
import { type DiskIndex, MAX_PINS } from './disk-index.js';
import { maxPinnedBytes } from './reclaim.js';
import type { HashKey, KvStore } from './store.js';

/** Until when (wall clock, ms), by the block at the end. */
export type Pins = ReadonlyMap<HashKey, number>;

/** A file system that does not answer is waited for so long. */
const SAVE_PATIENCE_MS = 10_000;

export interface DiskPinsOptions {
  readonly index: DiskIndex;
  readonly store: KvStore;
  readonly wallNow: () => number;
  /** Of an earlier process. */
  readonly pins: Pins;
  /** Rejects when the next process will not know them. */
  readonly save: (pins: Pins) => Promise<void>;
}

export class DiskPins {
  readonly #options: DiskPinsOptions;
  readonly #pending: Map<HashKey, number>;

  constructor(options: DiskPinsOptions) {
    this.#options = options;
    this.#pending = new Map(options.pins);
  }

  /**
   * Bytes that the pin holds; null: nothing of it is known. untilMs null: unpin. `queuedBytes`: of what is on its way to the
   * disk; `mayCome`: recovery may still find it. Rejects with Failure CACHE_UNAVAILABLE when it is not remembered.
   */
  async pin(key: HashKey, untilMs: number | null, queuedBytes: number, mayCome: boolean): Promise<number | null> {
    const bytes = untilMs === null ? this.#unpin(key) : this.#pin(key, untilMs, queuedBytes, mayCome);
    if (bytes === null) return null;
    const saved = this.#options.save(new Map([...this.#pending, ...this.#options.index.pins])).then(
      () => true,
      () => false,
    );
    if (!(await within(SAVE_PATIENCE_MS, saved, false)))
      throw new Failure(
        'CACHE_UNAVAILABLE',
        'the pin holds, but the disk does not take it: a restart will not know it',
      );
    return bytes;
  }

  /** A record came to the disk, which may be all that a pin waited for. There may be no room for it, and nobody to tell. */
  written(): void {
    const nowMs = this.#options.wallNow();
    for (const [key, until] of [...this.#pending])
      if (until <= nowMs || this.#inIndex(key, until) !== 'not-found') this.#pending.delete(key);
  }

  /** What was queued will not be on the disk. */
  dropped(key: HashKey): void {
    this.#pending.delete(key);
  }

  /** All that lies on the disk is known; what is neither there nor queued is not pinned. */
  recovered(isQueued: (key: HashKey) => boolean): void {
    this.written();
    for (const key of [...this.#pending.keys()]) if (!isQueued(key)) this.#pending.delete(key);
  }

  #unpin(key: HashKey): number | null {
    const wasPending = this.#pending.delete(key);
    return this.#options.index.unpin(key) ?? (wasPending ? 0 : null);
  }

  #pin(key: HashKey, untilMs: number, queuedBytes: number, mayCome: boolean): number | null {
    const bytes = this.#inIndex(key, untilMs);
    const isFull = bytes === 'full' || (bytes === 'not-found' && this.#pending.size >= MAX_PINS);
    if (isFull) throw new Failure('CACHE_UNAVAILABLE', 'pins may hold half of the cache together; it is held');
    if (bytes !== 'not-found') return bytes;
    if (queuedBytes === 0 && !mayCome) return null;
    this.#pending.set(key, untilMs);
    return queuedBytes;
  }

  #inIndex(key: HashKey, untilMs: number) {
    const { index, store, wallNow } = this.#options;
    return index.pin(key, untilMs, wallNow(), maxPinnedBytes(store.stats()));
  }
}
