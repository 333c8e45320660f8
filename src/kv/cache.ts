// The prompt cache: decides where a prompt starts, what others may share of it, which points are taken, and what goes to the
// disk. RAM is ram-tier.ts, the disk is disk-tier.ts; the scheduler asks here and tells what native reports. One thread.
//
//   open ──▶ admit ──▶ (restore) ──▶ progress, tokens, points ──▶ close
//              │ blocked: another computes the same prefix; full: no slots
//
// Rows are shared at multiples of 128 that a point stands behind. What a request computes is findable from the moment that it
// is complete, and goes to the disk as soon as a point does.

import { Failure } from '../base/failures.js';
import { within } from '../base/within.js';
import { BLOCK_TOKENS, hittableBlocks } from './block.js';
import { CacheCounts } from './cache-counts.js';
import { type ChainHasher, keyOfPrefixId } from './chain-hash.js';
import type { IndexedRecord, Selection } from './disk-index.js';
import type { DiskTier } from './disk-tier.js';
import { EventLog, removed, stored } from './event-log.js';
import { Lease, type LeaseRequest, type Names, namesOf, renameLeases } from './lease.js';
import { explainMiss } from './miss.js';
import { type PointMode, pointBoundaries } from './points.js';
import { selectInRam } from './ram-selection.js';
import { type Origin, type PointHandle, type RamName, RamTier } from './ram-tier.js';
import { findStart, firstRestored, hitTokens, type Start } from './start.js';
import type { HashKey } from './store.js';
import type {
  CacheCover,
  CacheEvent,
  CacheMiss,
  CacheStats,
  CacheSubscription,
  CacheTier,
  PromptCache,
  PurgeSelector,
} from './types.js';

export interface KvCacheOptions {
  readonly numSlots: number;
  readonly blockBytes: number;
  /** Rows and points that stay in RAM when no request holds them. */
  readonly keptBytesMax: number;
  /** Tokens that a replay computes again: (window - 1) x layers. */
  readonly replayTokens: number;
  readonly mode: PointMode;
  readonly hasher: ChainHasher;
  readonly releasePoint: (point: PointHandle) => void;
  /** Something that a waiting request may wait for has happened. Never called from inside a method. */
  readonly onChange: () => void;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  readonly wallNow: () => number;
  /** Measured; 0: not known yet. */
  readonly prefillTokensPerSecond: () => number;
}

export type Admission = 'ready' | 'restoring' | 'blocked' | 'full';

/** What native must be told of a sequence's place. */
export interface Placement {
  readonly slots: readonly number[];
  /** 0: none. */
  readonly startPoint: PointHandle;
  readonly startTokens: number;
  readonly frozenTokens: number;
  readonly points: readonly number[];
  readonly keepsEnds: boolean;
}

const NO_HITS = { live: 0, memory: 0, disk: 0 } as const;

// A restore is given up when it takes this share of the time that computing would take, and never before the base: then a
// request on a dying disk costs little more than a miss.
const RESTORE_SHARE = 0.05;
const RESTORE_BASE_MS = 1000;
const RESTORE_MS_PER_MIB = 5;

/** Purges and pins: how long the weights' digest is waited for, without which the disk is not in use. */
const ATTACH_PATIENCE_MS = 10_000;

// Events are numbered from the time of the start on, so that a reader of an earlier process, which had fewer a millisecond,
// is told to begin anew; and a snapshot's events have numbers above 0 before them.
const EVENTS_A_MS = 1000;

export class KvCache implements PromptCache {
  readonly #options: KvCacheOptions;
  readonly #ram: RamTier;
  readonly #events: EventLog;
  #hasher: ChainHasher;
  #disk: DiskTier | null = null;
  #expectsDisk = false;
  #isWorthWaiting = false;
  #diskProblem = '';
  #onAttached: () => void = () => {};
  readonly #attached = new Promise<void>((resolve) => {
    this.#onAttached = resolve;
  });
  /** Who computes (or restores) the block that ends with this hash. */
  readonly #computing = new Map<HashKey, Lease>();
  readonly #leases = new Set<Lease>();
  readonly #counts = new CacheCounts();

  constructor(options: KvCacheOptions) {
    this.#options = options;
    this.#hasher = options.hasher;
    this.#events = new EventLog(() => this.#snapshot(), options.wallNow() * EVENTS_A_MS);
    this.#ram = new RamTier({
      numSlots: options.numSlots,
      blockBytes: options.blockBytes,
      keptBytesMax: options.keptBytesMax,
      releasePoint: options.releasePoint,
      now: options.wallNow,
      onMoved: (key, origin, from, to) => this.#onMoved(key, origin, from, to),
    });
  }

  get ram(): RamTier {
    return this.#ram;
  }

  get events(): EventLog {
    return this.#events;
  }

  /**
   * A disk will be attached: until then nobody can tell what was never there. `isWorthWaiting`: this model was used with it
   * before, so that requests wait for what is found there, until `stopWaiting`.
   */
  expectDisk(isWorthWaiting: boolean): void {
    this.#expectsDisk = true;
    this.#isWorthWaiting = isWorthWaiting;
  }

  /**
   * The disk is there: from now on requests find what is on it. `hasher` is rooted in the model's whole identity; requests
   * that run take their rows along to the names it gives, and store them.
   */
  attachDisk(disk: DiskTier, hasher: ChainHasher): void {
    this.#disk = disk;
    this.#hasher = hasher;
    this.#renameAll();
    this.#onAttached();
    void disk.recovered.then(() => this.#events.announce());
    this.#options.onChange();
  }

  /** Whatever the disk still finds, no request waits for it any more. */
  stopWaiting(): void {
    this.#isWorthWaiting = false;
    this.#options.onChange();
  }

  /** There is a disk, and it cannot be used; `problem` says so in a sentence. */
  giveUpDisk(problem: string): void {
    this.#expectsDisk = false;
    this.#diskProblem = problem;
    this.#onAttached();
    this.stopWaiting();
  }

  /** For tests, after each of their steps. */
  checkIntegrity(): void {
    this.#ram.checkIntegrity();
    for (const lease of this.#computing.values()) {
      if (!this.#leases.has(lease)) throw new Error('cache: a block is computed by a lease that is closed');
    }
  }

  // --- a request's way ---

  open(request: LeaseRequest): Lease {
    return new Lease(request, this.#namesOf(request));
  }

  /** What would hit now. */
  cover(lease: Lease): CacheCover {
    const start = this.#findStart(lease);
    const hits = hitTokens(start, lease.chain, this.#ram, lease.hasWaited);
    const promptTokens = lease.promptTokens;
    return {
      promptTokens,
      hitLiveTokens: hits.live,
      hitMemoryTokens: hits.memory,
      hitDiskTokens: hits.disk,
      miss: this.#explain(lease, start),
      restoreBytes: this.#restoreBytes(start),
    };
  }

  /** Whether `admit` would answer 'blocked', as far as is known; looks at some flags. */
  isBlocked(lease: Lease): boolean {
    if (this.#awaitsDisk(lease)) return true;
    const { blockedBy } = lease;
    if (!blockedBy) return false;
    const { lease: other, boundary } = blockedBy;
    if (other.state === 'restoring' || (other.state === 'ready' && !this.#hasMade(other, lease, boundary))) return true;
    lease.blockedBy = null;
    return false;
  }

  /** Takes slots and decides where the prompt starts. 'full': nothing was taken; 'restoring': ready, or open again, later. */
  admit(lease: Lease): Admission {
    if (this.isBlocked(lease)) return 'blocked';
    const start = this.#findStart(lease);
    if (this.#waitForTwin(lease, start)) return 'blocked';
    // Before its own holds make them live.
    const hits = hitTokens(start, lease.chain, this.#ram, lease.hasWaited);
    const slots = this.#takeSlots(lease, start);
    if (!slots) return 'full';
    const { chain, request } = lease;
    lease.startTokens = start.tokens;
    lease.frozenTokens = start.point === null && start.blocks > 0 ? start.blocks * BLOCK_TOKENS : 0;
    lease.promptDone = start.tokens;
    lease.hits = hits;
    lease.miss = this.#explain(lease, start);
    lease.restoreBytes = this.#restoreBytes(start);
    const shared = Math.floor(lease.promptTokens / BLOCK_TOKENS);
    lease.choices = Array.from({ length: request.numChoices }, (_, choice) => ({
      slots: choice === 0 ? slots.splice(0, Math.ceil(request.totalTokens / BLOCK_TOKENS)) : [],
      chain: [...chain],
      plainChain: [...lease.plainChain],
      output: [],
      named: choice === 0 ? start.blocks : shared,
    }));
    const own = Math.ceil(request.totalTokens / BLOCK_TOKENS) - shared;
    for (const choice of lease.choices.slice(1)) {
      choice.slots.push(...(lease.choices[0] as { slots: number[] }).slots.slice(0, shared), ...slots.splice(0, own));
    }
    lease.points = this.#pointsOf(lease, start);
    this.#leases.add(lease);
    this.#touch(lease, start);
    this.#claim(lease, start);
    if (start.blocks > 0)
      lease.deepest = { key: chain[start.blocks - 1] as HashKey, tokens: start.blocks * BLOCK_TOKENS };
    if (start.runs.length === 0 && start.point?.t !== 'disk') {
      this.#becomeReady(lease);
      return 'ready';
    }
    this.#restore(lease, start);
    return 'restoring';
  }

  /** How many slots must be available for it to be admitted now. */
  slotsWanted(lease: Lease): number {
    return this.#shareOf(lease, this.#findStart(lease)).wanted;
  }

  placementOf(lease: Lease): Placement {
    const shared = Math.floor(lease.promptTokens / BLOCK_TOKENS);
    const slots = lease.choices.flatMap(({ slots: all }, choice) => (choice === 0 ? all : all.slice(shared)));
    return {
      slots,
      startPoint: lease.startPoint ?? 0,
      startTokens: lease.startTokens,
      frozenTokens: lease.frozenTokens,
      points: lease.points,
      keepsEnds: lease.keeps && this.#options.mode !== 'replay',
    };
  }

  /** The request is not wanted any more: what is being restored stops, and then it can be closed. */
  abandon(lease: Lease): void {
    lease.hits = NO_HITS;
    lease.cancelRestore?.();
  }

  /** Native has its definition and holds the start itself. */
  started(lease: Lease): void {
    if (lease.startPoint === null) return;
    this.#ram.releasePoint(lease.startPoint);
    lease.startPoint = null;
  }

  progress(lease: Lease, promptDone: number): void {
    lease.promptDone = Math.max(lease.promptDone, promptDone);
    this.#nameBlocks(lease, 0, lease.completeBlocks(0));
    if (promptDone === lease.promptTokens) this.#storeRows(lease);
  }

  tokens(lease: Lease, choice: number, tokens: readonly { readonly id: number }[]): void {
    lease.promptDone = lease.promptTokens;
    lease.addTokens(choice, tokens);
    this.#nameBlocks(lease, choice, lease.completeBlocks(choice));
  }

  /** Native has taken a point, which is this side's to give back. */
  pointTaken(lease: Lease, choice: number, position: number, handle: PointHandle, bytes: number): void {
    const blocks = Math.floor(position / BLOCK_TOKENS);
    if (lease.state === 'closed' || !lease.keeps) {
      this.#options.releasePoint(handle);
      return;
    }
    lease.promptDone = Math.max(lease.promptDone, Math.min(position, lease.promptTokens));
    this.#nameBlocks(lease, choice, blocks);
    const chain = lease.chainOf(choice, blocks);
    const key = blocks === 0 ? lease.keys.root : (chain[blocks - 1] as HashKey);
    if (position % BLOCK_TOKENS === 0) {
      this.#ram.addPoint(handle, bytes, key, lease.keys.scopeTag);
      if (this.#options.keptBytesMax > 0) this.#deepen(lease, key, position);
      this.#store(lease, choice, blocks, handle);
    } else {
      const tail = lease.tokensOf(choice, blocks * BLOCK_TOKENS, position);
      const isWhole = tail.length === position % BLOCK_TOKENS;
      this.#ram.addPoint(handle, bytes, isWhole ? key : null, lease.keys.scopeTag, tail);
    }
    this.#ram.releasePoint(handle);
    this.#options.onChange();
  }

  /** Nothing more comes of it, and native holds nothing of it: what it computed stays as far as there is room. */
  close(lease: Lease): void {
    if (lease.state === 'closed') return;
    if (lease.state === 'restoring') throw new Error('a lease is closed while blocks are being read into its slots');
    const wasAdmitted = lease.state !== 'open';
    if (wasAdmitted && lease.state === 'ready') this.#storeRows(lease);
    this.#giveBack(lease);
    lease.state = 'closed';
    this.#leases.delete(lease);
    if (wasAdmitted) this.#options.onChange();
  }

  /** Whether what it computed is found again after it has left its slots, and it has come further since it did so last. */
  canSpill(lease: Lease): boolean {
    const isStored = lease.keeps && !lease.wasRefused && !lease.avoidsDisk;
    // Without points it would have to compute whole windows again.
    if (!isStored || this.#options.mode === 'replay' || this.#disk?.isWritable !== true) return false;
    return lease.earlier === null || lease.hasOutput || lease.promptDone > lease.doneBefore;
  }

  /** Slots that others held have come free. */
  roomMade(): void {
    this.#options.onChange();
  }

  /** Ends a lease whose request will go on later. @returns the one for then: its prompt ends with what was generated. */
  suspend(lease: Lease): Lease {
    const { request, keeps } = lease;
    const total = lease.promptTokens + (lease.choices[0]?.output.length ?? 0);
    const promptTokens = lease.tokensOf(0, 0, total);
    if (lease.earlier === null) this.account(lease);
    const earlier = lease.use();
    const doneBefore = lease.hasOutput ? total : lease.promptDone;
    this.close(lease);
    const next = Object.assign(this.open({ ...request, promptTokens }), { keeps, earlier, doneBefore });
    this.#leases.add(next); // a purge concerns it though it waits
    return next;
  }

  /** Counted once a request is over, as far as it came, or leaves for the first time: then it will come to its end. */
  account(lease: Lease, promptTokens = lease.promptTokens): void {
    if (lease.earlier !== null) return;
    this.#counts.add(lease.hits, lease.miss, promptTokens);
  }

  // --- what clients ask ---

  /** A disk that is expected is waited for: what clients say of it concerns what lies there, and nobody knows that without it. */
  async #requireDisk(done: string): Promise<void> {
    if (this.#expectsDisk && !this.#disk) await within(ATTACH_PATIENCE_MS, this.#attached, undefined);
    if ((this.#expectsDisk || this.#diskProblem !== '') && !this.#disk) {
      throw new Failure('CACHE_UNAVAILABLE', `the disk is not in use yet, so nothing can be ${done} there; try again`);
    }
  }

  probe(tokens: Uint32Array, scope: string): CacheCover {
    const wishes = { read: true, write: false, scope, boundaries: [] };
    return this.cover(this.open({ promptTokens: tokens, numChoices: 1, totalTokens: tokens.length, wishes }));
  }

  async pin(prefixId: string, untilMs: number | null): Promise<number> {
    const key = keyOfPrefixId(prefixId);
    await this.#requireDisk('pinned');
    const bytes = key === null ? null : ((await this.#disk?.pin(key, untilMs)) ?? null);
    if (bytes === null) {
      const facts = { resource: { type: 'prefix', name: prefixId } };
      throw new Failure('PREFIX_NOT_FOUND', 'no such prefix is stored on the disk', facts);
    }
    return bytes;
  }

  async purge(selector: PurgeSelector): Promise<{ readonly blocks: number; readonly bytes: number }> {
    const key = selector.prefixId === null ? null : keyOfPrefixId(selector.prefixId);
    if (selector.prefixId !== null && key === null) return { blocks: 0, bytes: 0 };
    const { scope, unusedSinceMs, dryRun } = selector;
    // Scopes go by other names once the disk is there.
    const scopeTag = (): string | null => (scope === null ? null : this.#hasher.scopeOf(scope).scopeTag);
    const selectionNow = (): Selection => ({ scopeTag: scopeTag(), key, unusedSinceMs });
    const keys = new Set<HashKey>();
    let bytes = 0;
    const hide = (): void => {
      const selection = selectionNow();
      const inRam = selectInRam(this.#ram, selection);
      for (const found of inRam.keys) keys.add(found);
      bytes += inRam.keys.size * this.#options.blockBytes + inRam.pointBytes;
      if (dryRun) return;
      // What runs now must not bring back what was purged.
      if (unusedSinceMs === null) for (const lease of this.#leases) if (lease.isIn(selection)) this.#disown(lease);
      this.#ram.forget(inRam.keys, inRam.points);
    };
    // At once, whatever the disk does.
    hide();
    await this.#requireDisk('purged');
    // And what came to RAM from the disk, or runs, since then.
    const onDisk = await (dryRun ? this.#disk?.select(selectionNow()) : this.#disk?.purge(selectionNow(), hide));
    for (const found of onDisk?.keys ?? []) keys.add(found);
    return { blocks: keys.size, bytes: bytes + (onDisk?.bytes ?? 0) };
  }

  stats(): CacheStats {
    const disk = this.#disk?.stats() ?? null;
    const noDisk = { recovering: this.#expectsDisk, problem: this.#diskProblem };
    return this.#counts.stats(this.#ram.stats, this.#options, disk ?? noDisk);
  }

  watch(
    afterSequence: number,
    onEvents: (firstSequence: number, events: readonly CacheEvent[], reset: boolean) => void,
  ): CacheSubscription {
    return this.#events.watch(afterSequence, onEvents);
  }

  // --- names ---

  #namesOf(request: LeaseRequest): Names {
    return namesOf(request, this.#hasher, this.#disk !== null);
  }

  /** What runs, and what it has made so far, is found by the names of the hasher that is now. */
  #renameAll(): void {
    const names = renameLeases(this.#leases, (request) => this.#namesOf(request));
    this.#ram.rename(names);
    const computing = [...this.#computing];
    this.#computing.clear();
    for (const [key, lease] of computing) this.#computing.set((names.get(key) as RamName).key, lease);
    for (const lease of this.#leases) {
      lease.choices.forEach(({ chain }, choice) => {
        // Others that began alike may have left points further on than this one has come: its slots are empty there.
        chain.slice(0, lease.completeBlocks(choice)).forEach((key, block) => {
          const point = this.#ram.pointAt(key);
          if (point !== undefined) this.#store(lease, choice, block + 1, point);
        });
      });
    }
  }

  // --- starting ---

  /** What would hit is still being found: reading it then costs a thousandth of computing it now. */
  #awaitsDisk({ request, promptTokens }: Lease): boolean {
    if (!this.#isWorthWaiting || !request.wishes.read) return false;
    return this.#disk?.recovering !== false && hittableBlocks(promptTokens) > 0;
  }

  #findStart(lease: Lease): Start {
    // It was accepted before the disk was there.
    if (lease.hasher !== this.#hasher) lease.rename(this.#namesOf(lease.request));
    const { request, keys, chain } = lease;
    if (!request.wishes.read) return { tokens: 0, blocks: 0, point: null, runs: [], known: 0 };
    const { mode, replayTokens } = this.#options;
    const question = { tokens: request.promptTokens, chain, root: keys.root, mode, replayTokens };
    return findStart(question, this.#ram, this.#readableDisk(lease)?.index ?? null);
  }

  #readableDisk(lease: Lease): DiskTier | null {
    return this.#disk && !lease.avoidsDisk && this.#disk.isReadable ? this.#disk : null;
  }

  /** Another makes more of this prompt's prefix now than there is: it is worth waiting for. */
  #waitForTwin(lease: Lease, start: Start): boolean {
    if (!lease.request.wishes.read) return false;
    const { chain } = lease;
    for (let block = hittableBlocks(lease.promptTokens); block * BLOCK_TOKENS > start.tokens; block--) {
      const other = this.#computing.get(chain[block - 1] as HashKey);
      if (!other || other === lease) continue;
      const boundary = block * BLOCK_TOKENS;
      if (other.state !== 'restoring') {
        if (other.promptDone >= boundary) continue;
        if (this.#options.mode !== 'replay' && !other.points.includes(boundary)) other.extraPoints.add(boundary);
      }
      lease.blockedBy = { lease: other, boundary };
      lease.hasWaited = true;
      return true;
    }
    // What another reads already is read once, and then shared.
    for (let block = firstRestored(start); block < start.blocks; block++) {
      const other = this.#computing.get(chain[block] as HashKey);
      if (other === undefined || other === lease || other.state !== 'restoring') continue;
      lease.blockedBy = { lease: other, boundary: (block + 1) * BLOCK_TOKENS };
      lease.hasWaited = true;
      return true;
    }
    return false;
  }

  /** `other` has passed the boundary with or without a point; its report of one comes before its first token. */
  #hasMade(other: Lease, lease: Lease, boundary: number): boolean {
    if (this.#options.mode === 'replay') return other.promptDone >= boundary;
    if (this.#ram.pointAt(lease.chain[boundary / BLOCK_TOKENS - 1] as HashKey) !== undefined) return true;
    return other.promptDone > boundary || other.hasOutput;
  }

  /** Of choice 0, then of the others what is their own; null: there are not enough, and nothing has changed. */
  #takeSlots(lease: Lease, start: Start): number[] | null {
    const { shared, found, wanted } = this.#shareOf(lease, start);
    if (wanted > this.#ram.available) return null;
    // Before anything is taken: taking evicts what nobody holds.
    for (const slot of found) this.#ram.hold(slot);
    if (start.point?.t === 'ram') {
      lease.startPoint = start.point.handle;
      this.#ram.holdPoint(lease.startPoint);
    }
    return Array.from({ length: lease.numBlocks }, (_, block) => shared[block] ?? (this.#ram.take() as number));
  }

  /** Slots that are there already, and how many of the available ones it comes to hold: those that were kept are of them. */
  #shareOf(lease: Lease, start: Start) {
    const shared = lease.chain.slice(0, start.blocks).map((key) => this.#ram.find(key));
    const found = shared.filter((slot) => slot !== undefined);
    const kept = found.filter((slot) => !this.#ram.isHeld(slot));
    return { shared, found, wanted: lease.numBlocks - found.length + kept.length };
  }

  #explain(lease: Lease, start: Start): CacheMiss {
    const { identityTag: identity } = this.#hasher;
    const own = { identity, scope: lease.keys.scopeTag };
    return explainMiss(lease, start, own, this.#disk, this.#readableDisk(lease) !== null, this.#expectsDisk);
  }

  #restoreBytes(start: Start): number {
    const blocks = start.runs.reduce((sum, run) => sum + run.blocks, 0);
    return blocks * this.#options.blockBytes + (start.point?.t === 'disk' ? start.point.record.storedBytes : 0);
  }

  #pointsOf(lease: Lease, start: Start): number[] {
    const { request, promptTokens } = lease;
    if (!lease.keeps) return [];
    return pointBoundaries({
      mode: this.#options.mode,
      promptTokens,
      totalTokens: request.totalTokens,
      start: Math.max(start.tokens, start.blocks * BLOCK_TOKENS),
      boundaries: request.wishes.boundaries,
      // Known rows without a point: the first to pass there takes it.
      branchAt: start.known * BLOCK_TOKENS,
    });
  }

  /** Others that want these blocks wait for this one from now on. */
  #claim(lease: Lease, start: Start): void {
    const end = lease.keeps ? lease.chain.length : start.blocks; // what is read back is shared whatever the request wishes
    for (let block = firstRestored(start); block < end; block++) {
      const key = lease.chain[block] as HashKey;
      const isThere = block < start.blocks - 1 && this.#ram.find(key) !== undefined;
      if (!isThere && !this.#computing.has(key)) this.#computing.set(key, lease);
    }
  }

  /** Used last: the chain's end is older than its beginning, so that it goes first. */
  #touch(lease: Lease, start: Start): void {
    this.#ram.touch(lease.chain.slice(0, start.blocks).reverse());
    if (start.blocks > 0) this.#disk?.hit(lease.chain, start.blocks);
    // Rows that are there without a point are of use as soon as this request has taken one.
    if (start.known > start.blocks) this.#disk?.hit(lease.chain, start.known);
  }

  // --- restoring ---

  #restore(lease: Lease, start: Start): void {
    const disk = this.#disk as DiskTier;
    lease.state = 'restoring';
    lease.restoreBeganMs = this.#options.now();
    const slots = (lease.choices[0] as { slots: number[] }).slots;
    const parts = start.runs.map((run) => ({ run, slots: slots.slice(run.first, run.first + run.blocks) }));
    const point = start.point?.t === 'disk' ? start.point.record : null;
    const rate = this.#options.prefillTokensPerSecond();
    const computeMs = rate > 0 ? (start.tokens / rate) * 1000 : 0;
    const base = RESTORE_BASE_MS + (lease.restoreBytes / 2 ** 20) * RESTORE_MS_PER_MIB;
    const deadlineMs = Math.max(base, computeMs * RESTORE_SHARE);
    lease.cancelRestore = disk.restore(parts, point, deadlineMs, (outcome) => {
      lease.cancelRestore = null;
      lease.kvBytesRead += outcome.bytes;
      lease.restoreMs += this.#options.now() - lease.restoreBeganMs;
      if (outcome.point !== null) {
        // Findable at once: others that waited for this restore start there too.
        const { storedBytes, key } = point as IndexedRecord;
        this.#ram.addPoint(outcome.point, storedBytes, lease.isDisowned ? null : key, lease.keys.scopeTag);
      }
      if (outcome.ok) {
        lease.startPoint = outcome.point ?? lease.startPoint;
        this.#becomeReady(lease);
      } else {
        if (outcome.point !== null) this.#ram.releasePoint(outcome.point);
        lease.avoidsDisk = !outcome.mayTryAgain;
        lease.hits = NO_HITS;
        this.#giveBack(lease);
        lease.state = 'open';
      }
      this.#options.onChange();
    });
  }

  #becomeReady(lease: Lease): void {
    lease.state = 'ready';
    if (lease.kvBytesRead === 0 || lease.isDisowned) return;
    // Restored rows are as good as computed ones.
    (lease.choices[0] as { named: number }).named = 0;
    const blocks = Math.max(lease.frozenTokens, lease.startTokens - (lease.startTokens % BLOCK_TOKENS)) / BLOCK_TOKENS;
    this.#nameBlocks(lease, 0, blocks, true);
  }

  #giveBack(lease: Lease): void {
    for (const key of lease.chain) if (this.#computing.get(key) === lease) this.#computing.delete(key);
    if (lease.startPoint !== null) this.#ram.releasePoint(lease.startPoint);
    lease.startPoint = null;
    // From the end of the last choice to the front: in this order they become old.
    for (let choice = lease.choices.length - 1; choice >= 0; choice--) {
      const { slots } = lease.choices[choice] as { slots: number[] };
      const first = choice === 0 ? 0 : Math.floor(lease.promptTokens / BLOCK_TOKENS);
      for (let block = slots.length - 1; block >= first; block--) this.#ram.release(slots[block] as number);
    }
    lease.choices = [];
  }

  // --- keeping ---

  #nameBlocks(lease: Lease, choice: number, blocks: number, isRestored = false): void {
    const own = lease.choices[choice];
    if (!own || (!lease.keeps && !isRestored) || blocks <= own.named) return;
    const chain = lease.chainOf(choice, blocks);
    const end = Math.min(blocks, chain.length);
    for (let block = own.named; block < end; block++) {
      const key = chain[block] as HashKey;
      const parent = block === 0 ? '' : (chain[block - 1] as HashKey);
      const origin = { parent, scopeTag: lease.keys.scopeTag };
      if (this.#ram.name(own.slots[block] as number, key, origin)) {
        const from = block * BLOCK_TOKENS;
        this.#events.add(stored('live', key, origin, [...lease.tokensOf(choice, from, from + BLOCK_TOKENS)]));
      }
      if (this.#computing.get(key) === lease) this.#computing.delete(key);
    }
    own.named = Math.max(own.named, end);
  }

  #deepen(lease: Lease, key: HashKey, tokens: number): void {
    if (!lease.deepest || tokens > lease.deepest.tokens) lease.deepest = { key, tokens };
  }

  /** Rows up to a boundary, and the point there, go to the disk unless they are there. */
  #store(lease: Lease, choice: number, blocks: number, point: PointHandle | null): void {
    if (!this.#disk || !lease.keeps) return;
    const chain = lease.chainOf(choice, blocks);
    const { slots, plainChain } = lease.choices[choice] as { slots: number[]; plainChain: HashKey[] };
    const queued = this.#disk.write({
      chain: chain.slice(0, blocks),
      root: lease.keys.root,
      plainChain,
      scopeTag: lease.keys.scopeTag,
      identityTag: lease.hasher.identityTag,
      slots: slots.slice(0, blocks),
      tokens: lease.tokensOf(choice, 0, blocks * BLOCK_TOKENS),
      point,
    });
    if (queued === null) {
      lease.wasRefused = true;
      return;
    }
    lease.writeTokens += queued;
    this.#deepen(lease, chain[blocks - 1] as HashKey, blocks * BLOCK_TOKENS);
  }

  /** Without points rows are all there is to store. */
  #storeRows(lease: Lease): void {
    if (this.#options.mode !== 'replay') return;
    lease.choices.forEach(({ named }, choice) => {
      // Further choices begin behind the prompt, which may have been cut off before its end.
      const blocks = Math.min(named, lease.completeBlocks(choice));
      if (blocks > 0) this.#store(lease, choice, blocks, null);
    });
  }

  /** Nothing of what it computes is found or stored any more. */
  #disown(lease: Lease): void {
    lease.keeps = false;
    lease.isDisowned = true;
    for (const key of lease.chain) if (this.#computing.get(key) === lease) this.#computing.delete(key);
    lease.deepest = null;
    if (lease.earlier) lease.earlier = { ...lease.earlier, prefixId: null };
  }

  // --- events ---

  #onMoved(key: HashKey, origin: Origin, from: CacheTier | null, to: CacheTier | null): void {
    if (from) this.#events.add(removed(from, key, origin.scopeTag));
    if (from && to) this.#events.add(stored(to, key, origin)); // new ones come with their tokens
  }

  #snapshot(): CacheEvent[] {
    const inRam = [...this.#ram.blocks()].map(({ key, origin, tier }) => stored(tier, key, origin));
    return [...inRam, ...(this.#disk?.snapshot() ?? [])];
  }
}
