// Which region of the disk is emptied next, and what of it is written again: first in, first out, and every record
// that was hit since it was last written survives, all of them, however many. That equals LRU on real traces and writes
// only in sequence (../shared/design/kv-store.md 2.4, 3.3). Decides and keeps the index in step; the store does the work.
//
//   sealed ──oldest, two free ones are lacking──▶ kept records copied, the others forgotten ──▶ free

import type { DiskIndex, IndexedRecord } from './disk-index.js';
import type { StoreStats, StoreStatus } from './store.js';

/** Free regions that are always ready: one takes what is written, one what is kept of the next region. */
const KEEP_FREE_REGIONS = 2;
/**
 * So many regions in a row that free less than a tenth, and a quarter of all, mean that the disk is too small for what
 * is in use. Eight alone do not: one prompt of 126,000 tokens that is hit fills 14 regions, and forcing a drop after
 * each eighth cost 0.004 of the hit rate (a tenth of the trace, 10 % capacity).
 */
const FUTILE_REGIONS = 8;
const FUTILE_SHARE_OF_ALL = 0.25;
const FUTILE_SHARE = 0.1;
type Room = Pick<StoreStats, 'regionsFree' | 'regionsTotal' | 'regionsLimit' | 'regionBytes'>;

export interface ReclaimPlan {
  readonly region: number;
  /** Parents before what hangs on them, each chain in one piece. */
  readonly keep: readonly number[];
  /** Left the index just now. */
  readonly dropped: readonly IndexedRecord[];
}

export interface ReclaimCounts {
  readonly regions: number;
  readonly keptBytes: number;
  /** Regions dropped although they were in use, because nothing else would have made room: the disk is too small. */
  readonly forcedRegions: number;
}

/** What pins may hold together: with more, nothing else could live on the disk. */
export function maxPinnedBytes(room: Pick<StoreStats, 'regionsLimit' | 'regionBytes'>): number {
  return Math.floor(room.regionsLimit / 2) * room.regionBytes;
}

export class Reclaimer {
  readonly #index: DiskIndex;
  /** Sealed regions, the oldest first. */
  readonly #sealed = new Set<number>();
  readonly #readers = new Map<number, number>();
  #underWay: ReclaimPlan | null = null;
  #futileInARow = 0;
  #mustDrop = false;
  #counts = { regions: 0, keptBytes: 0, forcedRegions: 0 };

  constructor(index: DiskIndex) {
    this.#index = index;
  }

  sealed(region: number): void {
    this.#sealed.delete(region);
    this.#sealed.add(region);
  }

  /** Recovery is done: it told of sealed regions in any order, and ids tell which were filled first. */
  recovered(): void {
    const newest = new Map<number, number>();
    for (const { region, id } of this.#index.records()) newest.set(region, Math.max(id, newest.get(region) ?? 0));
    // One without records frees itself at no cost: first.
    const ordered = [...this.#sealed].sort((a, b) => (newest.get(a) ?? 0) - (newest.get(b) ?? 0));
    this.#sealed.clear();
    for (const region of ordered) this.#sealed.add(region);
  }

  /** A region that is read is left alone until as many reads have ended as began. */
  readBegins(region: number): void {
    this.#readers.set(region, (this.#readers.get(region) ?? 0) + 1);
  }

  readEnds(region: number): void {
    const readers = (this.#readers.get(region) ?? 0) - 1;
    if (readers > 0) this.#readers.set(region, readers);
    else this.#readers.delete(region);
  }

  /**
   * The next region to reclaim; null: enough are free, one is under way, or none can be taken now. What is not kept has
   * left the index when this returns. Every plan is to be followed by `done`.
   * @param canGrow whether the file system would give another region, within the quota.
   */
  next(room: Room, canGrow: boolean, nowMs: number): ReclaimPlan | null {
    const growable = canGrow ? Math.max(0, room.regionsLimit - room.regionsTotal) : 0;
    if (this.#underWay || room.regionsFree + growable >= KEEP_FREE_REGIONS) return null;
    const pinned = this.#index.pinned(nowMs);
    const mostFutile = Math.max(FUTILE_REGIONS, Math.floor(this.#sealed.size * FUTILE_SHARE_OF_ALL));
    const isForced = this.#mustDrop || this.#futileInARow >= mostFutile;
    const region = isForced ? this.#leastMissed(pinned) : this.#oldest();
    if (region === null) return null;

    const records = this.#index.inRegion(region);
    // What hangs on a record that was not hit since it was written was not hit since then either, for a hit marks the
    // whole way from the root; it goes with it, whatever older mark it has.
    const kept = records.filter(({ id, isHit }) => pinned.has(id) || (!isForced && isHit));
    const keptIds = new Set(kept.map(({ id }) => id));
    const dropped = records.filter(({ id }) => !keptIds.has(id)).flatMap(({ id }) => this.#index.remove(id, 'evicted'));
    // A forced drop can take the ground from under records of this very region.
    const keep = this.#inChains(kept.filter(({ id }) => this.#index.get(id) !== null));
    for (const { id } of keep) this.#index.setHit(id, false);

    const keptBytes = keep.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    const isFutile = room.regionBytes - keptBytes < FUTILE_SHARE * room.regionBytes;
    // After a forced drop one more futile region is enough for the next: else most of the disk's time went in copies.
    if (isForced) this.#futileInARow = mostFutile - 1;
    else this.#futileInARow = isFutile ? this.#futileInARow + 1 : 0;
    this.#mustDrop = false;
    this.#counts.regions++;
    this.#counts.keptBytes += keptBytes;
    if (isForced && dropped.some(({ isHit }) => isHit)) this.#counts.forcedRegions++;
    this.#underWay = { region, keep: keep.map(({ id }) => id), dropped };
    return this.#underWay;
  }

  /** The store is through with the plan. After a failure the region is sealed as before, with what was to be kept. */
  done(status: StoreStatus): void {
    const plan = this.#underWay;
    if (!plan) return;
    this.#underWay = null;
    if (status === 'ok') {
      this.#sealed.delete(plan.region);
      return;
    }
    for (const id of plan.keep) this.#index.setHit(id, true);
    // Behind the others, so that one region that cannot be read does not stop all reclaim.
    this.sealed(plan.region);
    // What was to be kept had nowhere to go: now something has to leave.
    if (status === 'no-space') this.#mustDrop = true;
  }

  counts(): ReclaimCounts {
    return { ...this.#counts };
  }

  get sealedRegions(): number {
    return this.#sealed.size;
  }

  #oldest(): number | null {
    for (const region of this.#sealed) if (!this.#readers.has(region)) return region;
    return null;
  }

  /** The region whose last use lies furthest back; one with pinned records only when there is no other. */
  #leastMissed(pinned: ReadonlySet<number>): number | null {
    const lastUse = new Map<number, number>();
    for (const { id, region, lastUsedMs } of this.#index.records()) {
      const used = pinned.has(id) ? Number.POSITIVE_INFINITY : lastUsedMs;
      lastUse.set(region, Math.max(used, lastUse.get(region) ?? 0));
    }
    let least: number | null = null;
    for (const region of this.#sealed) {
      if (this.#readers.has(region)) continue;
      if (least === null || (lastUse.get(region) ?? 0) < (lastUse.get(least) ?? 0)) least = region;
    }
    return least;
  }

  #inChains(kept: readonly IndexedRecord[]): IndexedRecord[] {
    const left = new Set(kept);
    const ordered: IndexedRecord[] = [];
    const follow = (record: IndexedRecord): void => {
      const waiting = [record];
      for (let next = waiting.pop(); next; next = waiting.pop()) {
        if (!left.delete(next)) continue;
        ordered.push(next);
        waiting.push(...this.#index.hangingOn(next).filter((child) => left.has(child)));
      }
    };
    for (const record of [...kept].sort((a, b) => a.fromBlock - b.fromBlock || a.id - b.id)) follow(record);
    return ordered;
  }
}
