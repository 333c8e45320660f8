// What lies on the disk, by content: the records that the store reported, found by chain hash. Holds no payload, does
// no I/O, asks no clock. One thread.
//
//   root ──[segment 0..32)──┬──[segment 32..64)──[segment 64..70)      a segment hangs on the boundary where it begins:
//             ▲    ▲        └──[segment 32..51)                        the end of another, or the middle of it, where
//           point  └──[segment 20..45)    ▲                            two prompts part. A point hangs on its boundary.
//                                       point
//
// What hangs on nothing cannot be restored. While the store recovers, and while writes are under way, records come in
// any order, so such orphans wait until `dropOrphans`; no search ever leads to one.

import { BLOCK_TOKENS } from './block.js';
import { BlockTable } from './block-table.js';
import { BoundedSet } from './bounded-set.js';
import type { HashKey, RecordInfo, RecordKind } from './store.js';
import type { MissReason } from './types.js';

const HASH_CHARS = 32;
/** Keys remembered after they were evicted: they only explain misses, 6 MB at most. */
const MAX_GHOSTS = 65_536;
/** Different tags of which copies are shared. */
const MAX_TAGS = 4096;
/** A bound for what clients can make us hold. */
export const MAX_PINS = 256;

export interface IndexedRecord {
  readonly id: number;
  readonly kind: RecordKind;
  readonly key: HashKey;
  readonly parent: HashKey;
  readonly identity: string;
  readonly scope: string;
  readonly fromBlock: number;
  readonly toBlock: number;
  readonly region: number;
  readonly storedBytes: number;
  /** Hit since it was written or written again. */
  readonly isHit: boolean;
  /** Wall clock: written, or last hit. */
  readonly lastUsedMs: number;
}

/** A part of a prefix: `blocks` blocks of segment `id`, behind its first `skip`. */
export interface Piece {
  readonly id: number;
  readonly key: HashKey;
  readonly region: number;
  readonly skip: number;
  readonly blocks: number;
}

export interface Found {
  /** Stored without a gap from the root on. */
  readonly blocks: number;
  readonly pieces: readonly Piece[];
}

export interface Selection {
  /** null: every scope. */
  readonly scopeTag: string | null;
  /** null: every prefix; else what holds the block that ends here, and all that hangs on it. */
  readonly key: HashKey | null;
  /** null: whatever; else only what was last used before. */
  readonly unusedSinceMs: number | null;
}

export interface IndexTotals {
  readonly segments: number;
  readonly points: number;
  readonly blocks: number;
  readonly segmentBytes: number;
  readonly pointBytes: number;
  /** Records that left by eviction since the start. */
  readonly evictedRecords: number;
  readonly evictedBlocks: number;
}

/** evicted: room was needed, or what it hung on is gone. corrupt: a check failed. purged: not to be remembered. */
export type Removal = 'evicted' | 'corrupt' | 'purged';

interface Entry extends IndexedRecord {
  /** Its number in the block table. */
  readonly slot: number;
  /** '' for a point. */
  readonly plain: HashKey;
  /** Chain hashes at its blocks' ends, one after the other; '' for a point. One string: half the memory of many. */
  readonly hashes: string;
  region: number;
  isHit: boolean;
  lastUsedMs: number;
}

export class DiskIndex {
  readonly #byId = new Map<number, Entry>();
  readonly #bySlot: (Entry | null)[] = [];
  readonly #freeSlots: number[] = [];
  readonly #table = new BlockTable();
  readonly #points = new Map<HashKey, Entry>();
  /** Segments by the boundary on which they hang; not those at the root. */
  readonly #children = new MultiMap<Entry>();
  /** Segments by the chain hash of their tokens alone. */
  readonly #byPlain = new MultiMap<Entry>();
  readonly #orphans = new Set<Entry>();
  /** Thousands of records have a handful of identities and scopes: one string each. */
  readonly #tags = new Map<string, string>();
  readonly #pins = new Map<HashKey, number>();
  readonly #evicted = new BoundedSet(MAX_GHOSTS);
  readonly #corrupt = new BoundedSet(MAX_GHOSTS);
  /** Whatever leaves the index, or never entered it, lies on the disk for a while yet. */
  readonly #onLeft: (id: number, region: number) => void;
  #totals = { segments: 0, points: 0, blocks: 0, segmentBytes: 0, pointBytes: 0, evictedRecords: 0, evictedBlocks: 0 };

  constructor(onLeft: (id: number, region: number) => void = () => {}) {
    this.#onLeft = onLeft;
  }

  /**
   * A record that is readable. Known already: only its region is taken over. Of two points at one boundary the later
   * stays. False: the record contradicts itself and was not taken.
   */
  add(record: RecordInfo): boolean {
    const known = this.#byId.get(record.id);
    if (known) {
      this.moved(record.id, record.region);
      return true;
    }
    const older = record.kind === 'point' ? this.#points.get(record.key) : undefined;
    const isSuperseded = older !== undefined && older.id > record.id;
    if (!isConsistent(record) || isSuperseded) {
      this.#onLeft(record.id, record.region);
      return isSuperseded;
    }
    if (older) this.#unlink(older);
    const entry = this.#entryOf(record);
    this.#link(entry);
    if (this.#isOrphan(entry)) this.#orphans.add(entry);
    return true;
  }

  /** The record is gone, and with it all that hangs on it. Returns them, itself first; none: it was not known. */
  remove(id: number, why: Removal): readonly IndexedRecord[] {
    const entry = this.#byId.get(id);
    return entry ? this.#drop(entry, why) : [];
  }

  moved(id: number, region: number): void {
    const entry = this.#byId.get(id);
    if (entry) entry.region = region;
  }

  /**
   * To be called when recovery is done, and later when a write failed and no other is under way: what still hangs on
   * nothing never will.
   */
  dropOrphans(): readonly IndexedRecord[] {
    const removed: IndexedRecord[] = [];
    // Parents end before their children begin, so one pass from the front decides all.
    for (const entry of [...this.#orphans].sort((a, b) => a.fromBlock - b.fromBlock)) {
      if (!this.#orphans.delete(entry)) continue; // went with another
      if (this.#isOrphan(entry)) removed.push(...this.#drop(entry, 'evicted'));
    }
    return removed;
  }

  /** Longest part of the prompt that is stored, whether a point makes it restorable or not. Changes nothing. */
  find(chain: readonly HashKey[], maxBlocks = chain.length): Found {
    const pieces: Piece[] = [];
    let blocks = 0;
    while (blocks < maxBlocks) {
      const best = this.#longestFrom(chain, blocks, maxBlocks);
      if (!best) break;
      const { entry, end } = best;
      pieces.push({
        id: entry.id,
        key: entry.key,
        region: entry.region,
        skip: blocks - entry.fromBlock,
        blocks: end - blocks,
      });
      blocks = end;
    }
    return { blocks, pieces };
  }

  pointAt(key: HashKey): IndexedRecord | null {
    return this.#points.get(key) ?? null;
  }

  get(id: number): IndexedRecord | null {
    return this.#byId.get(id) ?? null;
  }

  /** Chain hashes of a record that is or was in the index; of a point: its boundary. */
  blocksOf(record: IndexedRecord): HashKey[] {
    const { hashes, key } = record as Entry;
    return hashes === '' ? [key] : split(hashes);
  }

  records(): Iterable<IndexedRecord> {
    return this.#byId.values();
  }

  /** Looks at all records, 1 ms for 100,000: a region is reclaimed once in seconds, and lists would take 5 MB. */
  inRegion(region: number): readonly IndexedRecord[] {
    const records: Entry[] = [];
    for (const entry of this.#byId.values()) if (entry.region === region) records.push(entry);
    return records;
  }

  /** The first `blocks` blocks were used, from the disk or from a copy in RAM: their segments, and the point there. */
  hit(chain: readonly HashKey[], blocks: number, nowMs: number): void {
    for (const piece of this.find(chain, blocks).pieces) mark(this.#byId.get(piece.id) as Entry, nowMs);
    const point = blocks > 0 ? this.#points.get(chain[blocks - 1] as HashKey) : undefined;
    if (point) mark(point, nowMs);
  }

  /** Reclaim: a record is written again, or was not after all. */
  setHit(id: number, isHit: boolean): void {
    const entry = this.#byId.get(id);
    if (entry) entry.isHit = isHit;
  }

  /** The segment on which a record hangs; null: it begins the chain, or waits as an orphan. */
  parentOf(record: IndexedRecord): IndexedRecord | null {
    const boundary = record.kind === 'point' ? record.toBlock : record.fromBlock;
    return boundary === 0 ? null : this.#holder(record.parent, boundary);
  }

  /** What hangs on a record directly, points included. */
  hangingOn(record: IndexedRecord): readonly IndexedRecord[] {
    return [...this.#dependants(record as Entry, 0)];
  }

  /** Parents before what hangs on them. */
  select(selection: Selection): readonly IndexedRecord[] {
    const { scopeTag, key, unusedSinceMs } = selection;
    if (unusedSinceMs !== null) this.ageParents();
    const from = key === null ? [...this.#byId.values()] : this.#subtree(key);
    return from
      .filter((entry) => scopeTag === null || entry.scope === scopeTag)
      .filter((entry) => unusedSinceMs === null || entry.lastUsedMs < unusedSinceMs)
      .sort((a, b) => a.fromBlock - b.fromBlock || (a.kind === b.kind ? 0 : a.kind === 'segment' ? -1 : 1));
  }

  /** Whoever uses a record uses what it hangs on: after this no record is older than anything that hangs on it. */
  ageParents(): void {
    for (const entry of [...this.#byId.values()].sort((a, b) => b.toBlock - a.toBlock)) {
      const parent = this.parentOf(entry) as Entry | null;
      if (parent) parent.lastUsedMs = Math.max(parent.lastUsedMs, entry.lastUsedMs);
    }
  }

  /**
   * What the way from the root to this boundary takes, with the deepest point on it, is kept until then.
   * @returns bytes that this pin holds; 'not-found'; 'full' when all pins together would hold more than `maxBytes`.
   */
  pin(key: HashKey, untilMs: number, nowMs: number, maxBytes: number): number | 'not-found' | 'full' {
    const way = this.#way(key);
    if (way.length === 0) return 'not-found';
    const held = this.pinned(nowMs);
    if (!this.#pins.has(key) && this.#pins.size >= MAX_PINS) return 'full';
    for (const entry of way) held.add(entry.id);
    if (this.bytesOf(held) > maxBytes) return 'full';
    this.#pins.set(key, untilMs);
    return way.reduce((sum, entry) => sum + entry.storedBytes, 0);
  }

  /** @returns bytes that the pin held; null: there was none. */
  unpin(key: HashKey): number | null {
    if (!this.#pins.delete(key)) return null;
    return this.#way(key).reduce((sum, entry) => sum + entry.storedBytes, 0);
  }

  /** Until when, by the block at the end of what is pinned. */
  get pins(): ReadonlyMap<HashKey, number> {
    return this.#pins;
  }

  /** Ids that are pinned now; pins that have run out are forgotten. */
  pinned(nowMs: number): Set<number> {
    const ids = new Set<number>();
    for (const [key, untilMs] of this.#pins) {
      if (untilMs <= nowMs) this.#pins.delete(key);
      else for (const entry of this.#way(key)) ids.add(entry.id);
    }
    return ids;
  }

  bytesOf(ids: Iterable<number>): number {
    let bytes = 0;
    for (const id of ids) bytes += this.#byId.get(id)?.storedBytes ?? 0;
    return bytes;
  }

  /**
   * Why the prompt was not hit beyond `hitBlocks`, although more of it could have been.
   * @param plainChain the same prompt's chain without identity and scope; made only when nothing nearer explains it.
   */
  explain(
    chain: readonly HashKey[],
    hitBlocks: number,
    own: { readonly identity: string; readonly scope: string },
    plainChain: () => readonly HashKey[],
  ): { readonly reason: MissReason; readonly nearestBlocks: number } {
    const stored = this.find(chain).blocks;
    const nearestBlocks = stored > hitBlocks ? stored : 0;
    for (let block = Math.max(stored, hitBlocks + 1); block > hitBlocks; block--) {
      const hash = chain[block - 1];
      if (hash === undefined) continue;
      if (this.#corrupt.has(hash)) return { reason: 'corrupt', nearestBlocks };
      if (this.#evicted.has(hash)) return { reason: 'evicted', nearestBlocks };
    }
    if (nearestBlocks > 0) return { reason: 'no-point', nearestBlocks };
    const plain = plainChain();
    for (let block = plain.length; block > hitBlocks; block--) {
      for (const entry of this.#byPlain.get(plain[block - 1] as HashKey)) {
        if (entry.identity !== own.identity) return { reason: 'fingerprint', nearestBlocks: block };
        if (entry.scope !== own.scope) return { reason: 'scope', nearestBlocks: block };
      }
    }
    return { reason: hitBlocks > 0 ? 'diverged' : 'new', nearestBlocks };
  }

  totals(): IndexTotals {
    return { ...this.#totals };
  }

  get size(): number {
    return this.#byId.size;
  }

  /** For tests: throws where two of its structures disagree. */
  checkIntegrity(): void {
    const rule = (holds: boolean, text: string): void => {
      if (!holds) throw new Error(`disk index: ${text}`);
    };
    let blocks = 0;
    let bytes = 0;
    let children = 0;
    for (const entry of this.#byId.values()) {
      rule(this.#bySlot[entry.slot] === entry, `record ${entry.id} is not in its slot`);
      if (entry.kind === 'segment') {
        const hangs = [...this.#children.get(entry.parent)].includes(entry);
        rule(hangs === entry.fromBlock > 0, `segment ${entry.id} is not under its parent`);
        if (hangs) children++;
        rule([...this.#byPlain.get(entry.plain)].includes(entry), `record ${entry.id} is not under its plain hash`);
        for (const hash of this.blocksOf(entry)) {
          const isThere = this.#table.some(hash, 0, (slot) => slot === entry.slot);
          rule(isThere, `a block of ${entry.id} is not in the table`);
        }
        blocks += entry.toBlock - entry.fromBlock;
      } else rule(this.#points.get(entry.key) === entry, `point ${entry.id} is not at its boundary`);
      const parent = this.parentOf(entry);
      if (!this.#orphans.has(entry)) {
        rule(entry.fromBlock === 0 || parent !== null, `record ${entry.id} hangs on nothing`);
      }
      bytes += entry.storedBytes;
    }
    const { segments, points, segmentBytes, pointBytes } = this.#totals;
    rule(segments + points === this.#byId.size && points === this.#points.size, 'records are miscounted');
    rule(blocks === this.#totals.blocks && blocks === this.#table.size, 'blocks are miscounted');
    rule(bytes === segmentBytes + pointBytes, 'bytes are miscounted');
    rule(this.#children.size === children && this.#byPlain.size === segments, 'a map holds strangers');
    rule(this.#bySlot.length - this.#freeSlots.length === this.#byId.size, 'slots are miscounted');
  }

  #entryOf(record: RecordInfo): Entry {
    return {
      id: record.id,
      kind: record.kind,
      key: record.key,
      parent: record.kind === 'point' ? record.key : record.parent,
      identity: this.#tag(record.identity),
      scope: this.#tag(record.scope),
      plain: record.kind === 'point' ? '' : record.plain,
      fromBlock: record.fromToken / BLOCK_TOKENS,
      toBlock: record.toToken / BLOCK_TOKENS,
      region: record.region,
      storedBytes: record.storedBytes,
      slot: this.#freeSlots.pop() ?? this.#bySlot.length,
      hashes: record.blocks.join(''),
      isHit: false,
      lastUsedMs: record.createdMs,
    };
  }

  #tag(tag: string): string {
    const known = this.#tags.get(tag);
    if (known !== undefined) return known;
    if (this.#tags.size >= MAX_TAGS) this.#tags.clear();
    this.#tags.set(tag, tag);
    return tag;
  }

  #link(entry: Entry): void {
    this.#byId.set(entry.id, entry);
    this.#bySlot[entry.slot] = entry;
    if (entry.kind === 'point') this.#points.set(entry.key, entry);
    else {
      if (entry.fromBlock > 0) this.#children.add(entry.parent, entry);
      this.#byPlain.add(entry.plain, entry);
      for (let at = 0; at < entry.hashes.length; at += HASH_CHARS) this.#table.add(entry.hashes, at, entry.slot);
    }
    for (const hash of ghostsOf(entry)) {
      this.#evicted.delete(hash);
      this.#corrupt.delete(hash);
    }
    this.#count(entry, 1);
  }

  #unlink(entry: Entry): void {
    this.#onLeft(entry.id, entry.region);
    this.#byId.delete(entry.id);
    this.#bySlot[entry.slot] = null;
    this.#freeSlots.push(entry.slot);
    this.#orphans.delete(entry);
    if (entry.kind === 'point') this.#points.delete(entry.key);
    else {
      if (entry.fromBlock > 0) this.#children.delete(entry.parent, entry);
      this.#byPlain.delete(entry.plain, entry);
      for (let at = 0; at < entry.hashes.length; at += HASH_CHARS) this.#table.remove(entry.hashes, at, entry.slot);
    }
    this.#count(entry, -1);
  }

  #count(entry: Entry, sign: 1 | -1): void {
    const totals = this.#totals;
    if (entry.kind === 'point') {
      totals.points += sign;
      totals.pointBytes += sign * entry.storedBytes;
    } else {
      totals.segments += sign;
      totals.segmentBytes += sign * entry.storedBytes;
      totals.blocks += sign * (entry.toBlock - entry.fromBlock);
    }
  }

  #drop(first: Entry, why: Removal): IndexedRecord[] {
    const removed: Entry[] = [];
    const leaving = [first];
    for (let entry = leaving.pop(); entry; entry = leaving.pop()) {
      if (this.#byId.get(entry.id) !== entry) continue; // hangs on two blocks that left
      const dependants = [...this.#dependants(entry, 0)];
      this.#unlink(entry);
      removed.push(entry);
      // With a second copy of a block elsewhere, what hangs on it stays.
      for (const dependant of dependants) if (this.#isOrphan(dependant)) leaving.push(dependant);
      if (why === 'purged') continue;
      const ghosts = entry === first && why === 'corrupt' ? this.#corrupt : this.#evicted;
      for (const hash of ghostsOf(entry)) ghosts.add(hash);
      this.#totals.evictedRecords++;
      this.#totals.evictedBlocks += entry.toBlock - entry.fromBlock;
    }
    return removed;
  }

  #longestFrom(chain: readonly HashKey[], from: number, maxBlocks: number): { entry: Entry; end: number } | null {
    const hash = chain[from] as HashKey;
    let best: { entry: Entry; end: number } | null = null;
    this.#table.some(hash, 0, (slot) => {
      const entry = this.#bySlot[slot] as Entry;
      if (!holdsAt(entry, hash, from)) return false;
      let end = from + 1;
      const last = Math.min(maxBlocks, entry.toBlock);
      while (end < last && holdsAt(entry, chain[end] as HashKey, end)) end++;
      if (!best || end > best.end) best = { entry, end };
      return end === maxBlocks;
    });
    return best;
  }

  /** The segment that holds the block ending with `hash` at boundary `toBlock`, which is looked for when not given. */
  #holder(hash: HashKey, toBlock?: number): Entry | null {
    let holder: Entry | null = null;
    this.#table.some(hash, 0, (slot) => {
      const entry = this.#bySlot[slot] as Entry;
      const holds = toBlock === undefined ? indexIn(entry, hash) >= 0 : holdsAt(entry, hash, toBlock - 1);
      if (holds) holder = entry;
      return holds;
    });
    return holder;
  }

  #isOrphan(entry: Entry): boolean {
    return entry.kind === 'point'
      ? this.#holder(entry.key, entry.toBlock) === null
      : entry.fromBlock > 0 && this.#holder(entry.parent, entry.fromBlock) === null;
  }

  /** What hangs on the segment's blocks from its `firstBlock`-th on. */
  *#dependants(entry: Entry, firstBlock: number): Generator<Entry> {
    for (let i = firstBlock * HASH_CHARS; i < entry.hashes.length; i += HASH_CHARS) {
      const hash = entry.hashes.slice(i, i + HASH_CHARS);
      const point = this.#points.get(hash);
      if (point) yield point;
      yield* this.#children.get(hash);
    }
  }

  #subtree(key: HashKey): Entry[] {
    const found = new Set<Entry>();
    const waiting: { entry: Entry; firstBlock: number }[] = [];
    this.#table.some(key, 0, (slot) => {
      const entry = this.#bySlot[slot] as Entry;
      const firstBlock = indexIn(entry, key);
      if (firstBlock >= 0) waiting.push({ entry, firstBlock });
      return false;
    });
    for (let next = waiting.pop(); next; next = waiting.pop()) {
      if (found.has(next.entry)) continue;
      found.add(next.entry);
      for (const entry of this.#dependants(next.entry, next.firstBlock)) waiting.push({ entry, firstBlock: 0 });
    }
    return [...found];
  }

  /** Segments from the root to the boundary, and the deepest point on the way; empty: not stored from the root on. */
  #way(key: HashKey): Entry[] {
    const way: Entry[] = [];
    let point: Entry | null = null;
    let hash = key;
    for (let entry = this.#holder(hash); entry; entry = this.#holder(hash, entry.fromBlock)) {
      way.push(entry);
      for (let i = indexIn(entry, hash); !point && i >= 0; i--)
        point = this.#points.get(entry.hashes.slice(i * HASH_CHARS, (i + 1) * HASH_CHARS)) ?? null;
      if (entry.fromBlock === 0) return point ? [...way, point] : way;
      hash = entry.parent;
    }
    return [];
  }
}

function mark(entry: Entry, nowMs: number): void {
  entry.isHit = true;
  entry.lastUsedMs = Math.max(entry.lastUsedMs, nowMs);
}

function split(hashes: string): HashKey[] {
  return Array.from({ length: hashes.length / HASH_CHARS }, (_, i) =>
    hashes.slice(i * HASH_CHARS, (i + 1) * HASH_CHARS),
  );
}

/** By its first block a prompt meets a segment that is gone, by its boundary a point. */
function ghostsOf(entry: Entry): readonly HashKey[] {
  return [entry.kind === 'point' ? entry.key : entry.hashes.slice(0, HASH_CHARS)];
}

function holdsAt(entry: Entry, hash: HashKey, block: number): boolean {
  return block >= entry.fromBlock && entry.hashes.startsWith(hash, (block - entry.fromBlock) * HASH_CHARS);
}

/** Which of the segment's blocks ends with this hash; -1: none. */
function indexIn(entry: Entry, hash: HashKey): number {
  let at = entry.hashes.indexOf(hash);
  while (at >= 0 && at % HASH_CHARS !== 0) at = entry.hashes.indexOf(hash, at + 1);
  return at < 0 ? -1 : at / HASH_CHARS;
}

function isConsistent(record: RecordInfo): boolean {
  const { kind, fromToken, toToken, blocks, key } = record;
  if (key.length !== HASH_CHARS || fromToken % BLOCK_TOKENS !== 0 || toToken % BLOCK_TOKENS !== 0) return false;
  if (kind === 'point') return fromToken === toToken && toToken > 0 && blocks.length === 0;
  const count = (toToken - fromToken) / BLOCK_TOKENS;
  return (
    count > 0 &&
    blocks.length === count &&
    blocks[count - 1] === key &&
    blocks.every((hash) => hash.length === HASH_CHARS)
  );
}

/** Mostly one value a key: a set only where there are more, and then there may be thousands. */
class MultiMap<V extends object> {
  readonly #map = new Map<string, V | Set<V>>();
  #size = 0;

  add(key: string, value: V): void {
    const there = this.#map.get(key);
    if (there === undefined) this.#map.set(key, value);
    else if (there instanceof Set) there.add(value);
    else this.#map.set(key, new Set([there, value]));
    this.#size++;
  }

  get(key: string): Iterable<V> {
    const there = this.#map.get(key);
    return there === undefined ? [] : there instanceof Set ? there : [there];
  }

  /** The value must be there. */
  delete(key: string, value: V): void {
    const there = this.#map.get(key);
    if (there instanceof Set) there.delete(value);
    if (there === value || (there instanceof Set && there.size === 0)) this.#map.delete(key);
    this.#size--;
  }

  get size(): number {
    return this.#size;
  }
}
