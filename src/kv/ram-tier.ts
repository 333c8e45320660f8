// What of KV lies in RAM: slots of 128 tokens and points, some held by sequences and writes that run, the rest kept for
// later under a budget, oldest use first out. Native has the bytes; here are only numbers. One thread, no clock, no I/O.
//
//   free ──take──▶ held ──release──▶ kept (only with a name, and within the budget) ──evict──▶ free
//                   ▲──────hold───────┘

import type { HashKey } from './store.js';

/** A point's number in native. */
export type PointHandle = number;

export interface RamTierOptions {
  readonly numSlots: number;
  readonly blockBytes: number;
  /** Blocks and points that nobody holds. 0: nothing stays. */
  readonly keptBytesMax: number;
  /** Native may forget the point. */
  readonly releasePoint: (point: PointHandle) => void;
  /** Wall clock, ms; only tells what was not used for long. */
  readonly now: () => number;
  /** A block is findable in another tier than before; null: in none. */
  readonly onMoved?: (key: HashKey, origin: Origin, from: RamTierName | null, to: RamTierName | null) => void;
}

export type RamTierName = 'live' | 'memory';

/** What a block or point is found by. */
export interface RamName {
  readonly key: HashKey;
  readonly origin: Origin;
}

/** Where a block stands in the tree of prefixes. */
export interface Origin {
  /** Chain hash of the block before it; '': the first. */
  readonly parent: HashKey;
  readonly scopeTag: string;
}

interface Slot {
  holders: number;
  /** Chain hash at the block's end, once the block is complete and findable. */
  key: HashKey | null;
  origin: Origin | null;
  usedMs: number;
}

interface PointEntry {
  readonly handle: PointHandle;
  readonly bytes: number;
  scopeTag: string;
  holders: number;
  usedMs: number;
  /** Boundary, or the one before a tail. */
  key: HashKey | null;
  /** Tokens behind the boundary; null: a point at the boundary itself. */
  readonly tail: Uint32Array | null;
}

/** The exact end of a sequence that is kept. */
export interface Tail {
  readonly handle: PointHandle;
  readonly tokens: Uint32Array;
}

/** A bound for what is searched at each boundary. */
const MAX_TAILS_AT_ONE_BOUNDARY = 8;

export class RamTier {
  readonly #options: RamTierOptions;
  readonly #slots: Slot[] = [];
  readonly #free: number[] = [];
  readonly #byKey = new Map<HashKey, number>();
  readonly #points = new Map<PointHandle, PointEntry>();
  readonly #pointByKey = new Map<HashKey, PointEntry>();
  readonly #tails = new Map<HashKey, PointEntry[]>();
  /** Kept, oldest use first: slot n as n, point h as -h. */
  readonly #kept = new Set<number>();
  #keptBytes = 0;
  #keptBlocks = 0;
  #evictions = 0;

  constructor(options: RamTierOptions) {
    this.#options = options;
  }

  // --- blocks ---

  /** The slot that holds this block, complete. */
  find(key: HashKey): number | undefined {
    return this.#byKey.get(key);
  }

  /** Whether a sequence or a write holds it now. */
  isHeld(slot: number): boolean {
    return this.#slot(slot).holders > 0;
  }

  /** Slots that `take` could give now. */
  get available(): number {
    return this.#options.numSlots - this.#slots.length + this.#free.length + this.#keptBlocks;
  }

  /** A slot with one holder and no name; evicts what is kept when none is free. null: all are held. */
  take(): number | null {
    let slot = this.#free.pop();
    if (slot === undefined && this.#slots.length < this.#options.numSlots) {
      slot = this.#slots.length;
      this.#slots.push({ holders: 0, key: null, origin: null, usedMs: 0 });
    }
    while (slot === undefined) {
      if (this.#keptBlocks === 0) return null;
      this.#evictOldest();
      slot = this.#free.pop();
    }
    this.#slot(slot).holders = 1;
    return slot;
  }

  hold(slot: number): void {
    const entry = this.#slot(slot);
    if (entry.holders === 0) {
      this.#unkeep(slot, this.#options.blockBytes);
      if (entry.key !== null) this.#options.onMoved?.(entry.key, entry.origin as Origin, 'memory', 'live');
    }
    entry.holders += 1;
  }

  release(slot: number): void {
    const entry = this.#slot(slot);
    if (entry.holders === 0) throw new Error(`slot ${slot} is held by nobody`);
    entry.holders -= 1;
    if (entry.holders > 0) return;
    if (entry.key === null) {
      this.#free.push(slot);
      return;
    }
    entry.usedMs = this.#options.now();
    this.#options.onMoved?.(entry.key, entry.origin as Origin, 'live', 'memory');
    this.#keep(slot, this.#options.blockBytes);
  }

  /** The held slot's block is complete and has these tokens. Another slot may have them already: then this one stays nameless. */
  name(slot: number, key: HashKey, origin: Origin): boolean {
    const entry = this.#slot(slot);
    if (entry.key !== null || this.#byKey.has(key)) return false;
    entry.key = key;
    entry.origin = origin;
    this.#byKey.set(key, slot);
    this.#options.onMoved?.(key, origin, null, 'live');
    return true;
  }

  // --- points ---

  /** A new point with one holder. With a second one for the same place the older stays, and this one is only held. */
  addPoint(
    handle: PointHandle,
    bytes: number,
    key: HashKey | null,
    scopeTag: string,
    tail: Uint32Array | null = null,
  ): void {
    const entry: PointEntry = { handle, bytes, scopeTag, holders: 1, usedMs: 0, key: null, tail };
    this.#points.set(handle, entry);
    if (key === null) return;
    if (tail === null) {
      if (this.#pointByKey.has(key)) return;
      entry.key = key;
      this.#pointByKey.set(key, entry);
      return;
    }
    const tails = this.#tails.get(key) ?? [];
    if (tails.length >= MAX_TAILS_AT_ONE_BOUNDARY || tails.some((other) => sameTokens(other.tail, tail))) return;
    entry.key = key;
    this.#tails.set(key, [...tails, entry]);
  }

  pointAt(key: HashKey): PointHandle | undefined {
    return this.#pointByKey.get(key)?.handle;
  }

  tailsAt(key: HashKey): readonly Tail[] {
    return (this.#tails.get(key) ?? []).map(({ handle, tail }) => ({ handle, tokens: tail as Uint32Array }));
  }

  holdPoint(handle: PointHandle): void {
    const entry = this.#point(handle);
    if (entry.holders === 0) this.#unkeep(-handle, entry.bytes);
    entry.holders += 1;
  }

  releasePoint(handle: PointHandle): void {
    const entry = this.#point(handle);
    if (entry.holders === 0) throw new Error(`point ${handle} is held by nobody`);
    entry.holders -= 1;
    if (entry.holders > 0) return;
    entry.usedMs = this.#options.now();
    if (entry.key === null) this.#forgetPoint(entry);
    else this.#keep(-handle, entry.bytes);
  }

  // --- both ---

  /** What is kept at these keys was of use: it leaves last. Give the deepest first, so that a chain loses its end first. */
  touch(keys: readonly HashKey[]): void {
    for (const key of keys) {
      const point = this.#pointByKey.get(key);
      if (point?.holders === 0) this.#moveBack(-point.handle);
      const slot = this.#byKey.get(key);
      if (slot !== undefined && this.#slot(slot).holders === 0) this.#moveBack(slot);
    }
  }

  /** These are not found any more; what is held goes when its last holder does. */
  forget(blocks: Iterable<HashKey>, points: Iterable<PointHandle>): void {
    for (const key of blocks) this.#forgetSlotKey(this.#byKey.get(key) as number);
    for (const handle of points) this.#forgetPointKey(this.#point(handle));
  }

  /** The same rows are found by other names, by the ones they have now; what has no new one is forgotten. */
  rename(names: ReadonlyMap<HashKey, RamName>): void {
    const blocks = [...this.#byKey];
    const points = [...this.#points.values()].filter(({ key }) => key !== null);
    const isLost = (key: HashKey | null) => !names.has(key as HashKey);
    this.forget(
      blocks.map(([key]) => key).filter(isLost),
      points.filter(({ key }) => isLost(key)).map(({ handle }) => handle),
    );
    for (const [old, number] of blocks) {
      const name = names.get(old);
      if (!name) continue;
      const slot = this.#slot(number);
      const tier = slot.holders > 0 ? 'live' : 'memory';
      this.#byKey.delete(old);
      this.#options.onMoved?.(old, slot.origin as Origin, tier, null);
      [slot.key, slot.origin] = [name.key, name.origin];
      this.#byKey.set(name.key, number);
      this.#options.onMoved?.(name.key, name.origin, null, tier);
    }
    this.#pointByKey.clear();
    this.#tails.clear();
    for (const point of points) {
      const name = point.key === null ? undefined : names.get(point.key);
      if (!name) continue;
      [point.key, point.scopeTag] = [name.key, name.origin.scopeTag];
      if (point.tail === null) this.#pointByKey.set(name.key, point);
      else this.#tails.set(name.key, [...(this.#tails.get(name.key) ?? []), point]);
    }
  }

  /** Every findable block. */
  *blocks(): Generator<{
    readonly key: HashKey;
    readonly origin: Origin;
    readonly usedMs: number;
    readonly tier: RamTierName;
  }> {
    for (const [key, number] of this.#byKey) {
      const { origin, usedMs, holders } = this.#slot(number);
      yield { key, origin: origin as Origin, usedMs, tier: holders > 0 ? 'live' : 'memory' };
    }
  }

  /** Every findable point, exact ends included. */
  *points(): Generator<{
    readonly handle: PointHandle;
    readonly key: HashKey;
    readonly scopeTag: string;
    readonly bytes: number;
    readonly usedMs: number;
    readonly isHeld: boolean;
  }> {
    for (const { handle, key, scopeTag, bytes, usedMs, holders } of this.#points.values())
      if (key !== null) yield { handle, key, scopeTag, bytes, usedMs, isHeld: holders > 0 };
  }

  /** Of every point that is not given back yet; for tests. */
  pointHandles(): PointHandle[] {
    return [...this.#points.keys()];
  }

  get stats() {
    let heldBlocks = 0;
    let heldPoints = 0;
    let pointBytes = 0;
    for (const { holders } of this.#slots) if (holders > 0) heldBlocks += 1;
    for (const { bytes, holders } of this.#points.values()) {
      pointBytes += bytes;
      if (holders > 0) heldPoints += 1;
    }
    return {
      heldBlocks,
      heldPoints,
      keptBlocks: this.#keptBlocks,
      keptBytes: this.#keptBytes,
      pointBytes,
      namedBlocks: this.#byKey.size,
      evictions: this.#evictions,
    };
  }

  /** Throws where two of its structures disagree. For tests, after each of their steps. */
  checkIntegrity(): void {
    const rule = (holds: boolean, text: string): void => {
      if (!holds) throw new Error(`ram tier: ${text}`);
    };
    rule(this.#slots.length <= this.#options.numSlots, 'more slots than there are');
    let bytes = 0;
    let blocks = 0;
    this.#slots.forEach(({ holders, key }, slot) => {
      rule(key === null || this.#byKey.get(key) === slot, `slot ${slot} is not findable by its key`);
      const isKept = this.#kept.has(slot);
      rule(isKept === (holders === 0 && key !== null), `slot ${slot}: kept means named and held by nobody`);
      rule(this.#free.includes(slot) === (holders === 0 && key === null), `slot ${slot}: free means without either`);
      if (isKept) blocks += 1;
    });
    bytes += blocks * this.#options.blockBytes;
    for (const { handle, holders, key, bytes: size } of this.#points.values()) {
      const isKept = this.#kept.has(-handle);
      rule(isKept === (holders === 0), `point ${handle}: kept means held by nobody`);
      rule(holders > 0 || key !== null, `point ${handle} is nobody's`);
      if (isKept) bytes += size;
    }
    rule(bytes === this.#keptBytes && blocks === this.#keptBlocks, 'kept bytes are miscounted');
    rule(this.#keptBytes <= this.#options.keptBytesMax, 'more is kept than may be');
  }

  #keep(item: number, bytes: number): void {
    this.#kept.add(item);
    this.#keptBytes += bytes;
    if (item >= 0) this.#keptBlocks += 1;
    while (this.#keptBytes > this.#options.keptBytesMax) this.#evictOldest();
  }

  #unkeep(item: number, bytes: number): void {
    if (!this.#kept.delete(item)) return;
    this.#keptBytes -= bytes;
    if (item >= 0) this.#keptBlocks -= 1;
  }

  #moveBack(item: number): void {
    this.#kept.delete(item);
    this.#kept.add(item);
  }

  #evictOldest(): void {
    const oldest = this.#kept.values().next().value as number;
    this.#evictions += 1;
    if (oldest >= 0) this.#forgetSlotKey(oldest);
    else this.#forgetPointKey(this.#point(-oldest));
  }

  #forgetSlotKey(slot: number): void {
    const entry = this.#slot(slot);
    const { key, origin, holders } = entry;
    this.#byKey.delete(key as HashKey);
    entry.key = null;
    entry.origin = null;
    if (holders === 0) {
      this.#unkeep(slot, this.#options.blockBytes);
      this.#free.push(slot);
    }
    this.#options.onMoved?.(key as HashKey, origin as Origin, holders > 0 ? 'live' : 'memory', null);
  }

  #forgetPointKey(entry: PointEntry): void {
    const key = entry.key as HashKey;
    entry.key = null;
    if (entry.tail === null) this.#pointByKey.delete(key);
    else {
      const left = (this.#tails.get(key) ?? []).filter((other) => other !== entry);
      if (left.length > 0) this.#tails.set(key, left);
      else this.#tails.delete(key);
    }
    if (entry.holders === 0) {
      this.#unkeep(-entry.handle, entry.bytes);
      this.#forgetPoint(entry);
    }
  }

  #forgetPoint(entry: PointEntry): void {
    this.#points.delete(entry.handle);
    this.#options.releasePoint(entry.handle);
  }

  #slot(slot: number): Slot {
    const entry = this.#slots[slot];
    if (!entry) throw new Error(`there is no slot ${slot}`);
    return entry;
  }

  #point(handle: PointHandle): PointEntry {
    const entry = this.#points.get(handle);
    if (!entry) throw new Error(`there is no point ${handle}`);
    return entry;
  }
}

function sameTokens(a: Uint32Array | null, b: Uint32Array): boolean {
  return a !== null && a.length === b.length && a.every((token, index) => token === b[index]);
}
