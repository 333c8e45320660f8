// The disk behind the cache: what is written and when, read back, reclaimed and purged. Owns the index and every ticket; the
// store (native) does the work and answers by events. One thread; a disk that fails or hangs costs hits, never an answer.
//   write ──append──▶ gathered ──▶ written ──▶ durable          slots and points are held from append to gathered
//            ├─ no space: waits for the region that is being reclaimed
//            └─ nothing ends for a while: what is not gathered is given up
//   restore ──reads──▶ all there │ one failed, or the deadline passed: the others are cancelled, and the prompt is computed

import { Failure } from '../base/failures.js';
import { within } from '../base/within.js';
import { BLOCK_TOKENS } from './block.js';
import { BoundedSet } from './bounded-set.js';
import { DiskIndex, type IndexedRecord, type Selection } from './disk-index.js';
import { DiskPins, type Pins } from './disk-pins.js';
import { removed, storedOnDisk } from './event-log.js';
import { DiskHealth } from './health.js';
import { segmentsFor } from './points.js';
import type { PointHandle, RamTier } from './ram-tier.js';
import { Reclaimer } from './reclaim.js';
import { type RestoreOutcome, Restores } from './restores.js';
import type { Run } from './start.js';
import {
  type HashKey,
  type KvStore,
  PAGE_BYTES,
  type RecordInfo,
  type StoreEvent,
  type StoreStatus,
  storedBytes,
} from './store.js';
import type { CacheEvent, TierStats } from './types.js';
import { isAt, type Write, type WriteRequest } from './write.js';
import { WriteBudget } from './write-budget.js';

export interface DiskTierOptions {
  readonly store: KvStore;
  readonly ram: RamTier;
  /** Of the quota, for stats. */
  readonly maxBytes: number;
  /** A block and a point as the disk keeps them. */
  readonly blockPayloadBytes: number;
  readonly pointPayloadBytes: number;
  /** A day; 0: no limit. */
  readonly writeBudgetBytes: number;
  readonly pins: Pins;
  readonly savePins: (pins: Pins) => Promise<void>;
  /** False: the engine computes with other weights than those that the records are named after. */
  readonly isModelUnchanged: () => boolean;
  /** Slots that writes held have come free. */
  readonly onRoom: () => void;
  readonly now: () => number;
  readonly wallNow: () => number;
  readonly onEvent: (event: CacheEvent) => void;
  /** In a sentence, when the disk's condition changes; '': well again. */
  readonly onProblem: (problem: string) => void;
}

// What may wait to be written: beyond it a disk is so slow that keeping RAM for it would cost more than it gives.
const QUEUED_BYTES_MAX = 256 * 2 ** 20;
const NOT_STORED_KEYS = 16_384;
/** Far above what a flash disk takes for a stall of its own, and less than a request would wait for the slots. */
const WRITE_PATIENCE_MS = 10_000;
/** On a full file system no region is reclaimed while there are fewer: the store wants as many to keep what is hit. */
const RECLAIMED_REGIONS_MIN = 8;
/** Purge: how long a disk that does not answer is waited for. */
const PURGE_TIMEOUT_MS = 10_000;
const CHANGED_MODEL =
  'the model file was written to while it is served: its prefixes are not stored, and no stored ones used, until a restart';

export class DiskTier {
  /** Region by id of what left the index and may lie on the disk still: a restart would find it. */
  readonly #left = new Map<number, number>();
  readonly index = new DiskIndex((id, region) => this.#left.set(id, region));
  readonly #options: DiskTierOptions;
  readonly #store: KvStore;
  readonly #ram: RamTier;
  readonly #reclaimer = new Reclaimer(this.index);
  readonly #budget: WriteBudget;
  readonly #health = new DiskHealth();
  readonly #maxSegmentBlocks: number;
  readonly #writes = new Map<number, Write>();
  /** Refused for want of space while a region is being reclaimed. */
  #waiting: Write[] = [];
  readonly #queuedBlocks = new Set<HashKey>();
  readonly #queuedPoints = new Set<HashKey>();
  #queuedBytes = 0;
  #stuckTimer: NodeJS.Timeout | null = null;
  readonly #restores: Restores;
  readonly #onWriteEnd: (() => void)[] = [];
  readonly #destroys = new Map<number, (status: StoreStatus) => void>();
  readonly #pins: DiskPins;
  #undurable: { readonly record: RecordInfo; readonly tokens: Uint32Array }[] = [];
  readonly #notStored = new BoundedSet(NOT_STORED_KEYS);
  #lastTicket = 0;
  #reclaimTicket = 0;
  /** In a row. */
  #failedReclaims = 0;
  /** A write failed, or a record went, since they were last looked for. */
  #mayHaveOrphans = false;
  #isFull = false;
  #shownCondition = '';
  #recovered: Promise<void>;
  #onRecovered: () => void = () => {};
  #isRecovering = true;
  #isClosed = false;
  #quarantined = 0;

  constructor(options: DiskTierOptions) {
    this.#options = options;
    this.#store = options.store;
    this.#ram = options.ram;
    const { store, wallNow, pins, savePins: save } = options;
    this.#pins = new DiskPins({ index: this.index, store, wallNow, pins, save });
    this.#budget = new WriteBudget(options.writeBudgetBytes, options.store.stats().regionBytes);
    const room = options.store.stats().regionBytes - PAGE_BYTES;
    let blocks = 32;
    while (blocks > 1 && storedBytes(blocks * options.blockPayloadBytes, blocks) > room) blocks -= 1;
    this.#maxSegmentBlocks = blocks;
    this.#recovered = new Promise((resolve) => {
      this.#onRecovered = resolve;
    });
    this.#restores = new Restores({
      store: options.store,
      index: this.index,
      reclaimer: this.#reclaimer,
      health: this.#health,
      now: options.now,
      nextTicket: () => ++this.#lastTicket,
      onBad: (id, why) => this.#lostRecord(id, why),
    });
    options.store.onWake = () => this.#drain();
  }

  get recovering(): boolean {
    return this.#isRecovering;
  }

  /** False while the device is given a rest: look-ups then leave the disk out. */
  get isReadable(): boolean {
    return !this.#isClosed && this.#health.allows(this.#options.now());
  }

  /** Whether what is given to it now has a chance to be stored. */
  get isWritable(): boolean {
    return this.isReadable && this.#health.canWrite;
  }

  /** Resolves once all that lies there is in the index. */
  get recovered(): Promise<void> {
    return this.#recovered;
  }

  get problem(): string {
    return this.#health.problem(this.#options.now());
  }

  /** The block was computed once and then not stored. */
  wasNotStored(key: HashKey): boolean {
    return this.#notStored.has(key);
  }

  hit(chain: readonly HashKey[], blocks: number): void {
    this.index.hit(chain, blocks, this.#options.wallNow());
  }

  /** Whether the store's files still go by their names. What is written to others no start would find. */
  directoryIs(isThere: boolean): void {
    this.#health.directoryIs(isThere);
    this.#showProblem();
  }

  // --- writing ---

  /** Tokens of rows that are queued now; null: it is not stored. */
  write(request: WriteRequest): number | null {
    const { chain, plainChain, root, scopeTag, identityTag, slots, tokens, point } = request;
    const key = chain.at(-1) as HashKey;
    let from = this.index.find(chain).blocks;
    while (from < chain.length && this.#queuedBlocks.has(chain[from] as HashKey)) from++;
    const ranges = segmentsFor(from, chain.length, this.#maxSegmentBlocks);
    const isPointNew = point !== null && !this.index.pointAt(key) && !this.#queuedPoints.has(key);
    if (ranges.length === 0 && !isPointNew) return 0;

    const common = { scope: scopeTag, identity: identityTag };
    const writes = ranges.map(({ fromBlock, toBlock }): Write => {
      const blocks = chain.slice(fromBlock, toBlock);
      return {
        record: {
          ...common,
          kind: 'segment',
          key: chain[toBlock - 1] as HashKey,
          parent: fromBlock === 0 ? root : (chain[fromBlock - 1] as HashKey),
          plain: plainChain[toBlock - 1] as HashKey,
          fromToken: fromBlock * BLOCK_TOKENS,
          toToken: toBlock * BLOCK_TOKENS,
          blocks,
        },
        payload: { t: 'slots', slots: slots.slice(fromBlock, toBlock) },
        bytes: storedBytes(blocks.length * this.#options.blockPayloadBytes, blocks.length),
        chain,
        tokens,
        isDoomed: false,
        isHeld: false,
      };
    });
    if (isPointNew) {
      const at = chain.length * BLOCK_TOKENS;
      const plain = plainChain[chain.length - 1] as HashKey;
      writes.push({
        record: { ...common, kind: 'point', key, parent: key, plain, fromToken: at, toToken: at, blocks: [] },
        payload: { t: 'point', point: point as PointHandle },
        bytes: storedBytes(this.#options.pointPayloadBytes, 0),
        chain,
        tokens,
        isDoomed: false,
        isHeld: false,
      });
    }
    const bytes = writes.reduce((sum, write) => sum + write.bytes, 0);
    const nowMs = this.#options.wallNow();
    if (!this.#options.isModelUnchanged()) this.#giveUp(CHANGED_MODEL);
    const isWritable = this.isReadable && this.#health.isThere && this.#queuedBytes + bytes <= QUEUED_BYTES_MAX;
    if (!isWritable || !this.#budget.admits(chain[0] as HashKey, bytes, nowMs)) {
      for (const block of chain.slice(from)) this.#notStored.add(block);
      return null;
    }
    this.#health.mayUse(this.#options.now()); // after a pause a write tells as well as a read
    for (const write of writes) {
      this.#queue(write);
      this.#append(write);
    }
    return (chain.length - from) * BLOCK_TOKENS;
  }

  #append(write: Write): void {
    const ticket = ++this.#lastTicket;
    this.#writes.set(ticket, write);
    this.#store.append(ticket, write.record, write.payload);
    this.#watchWrites();
  }

  #queue(write: Write): void {
    const { record, payload, bytes } = write;
    this.#queuedBytes += bytes;
    write.isHeld = true;
    if (payload.t === 'point') {
      this.#ram.holdPoint(payload.point);
      this.#queuedPoints.add(record.key);
      return;
    }
    for (const slot of payload.slots) this.#ram.hold(slot);
    for (const key of record.blocks) this.#queuedBlocks.add(key);
  }

  #release(write: Write | undefined): void {
    if (!write?.isHeld) return;
    write.isHeld = false;
    const { payload } = write;
    if (payload.t === 'point') this.#ram.releasePoint(payload.point);
    else for (const slot of [...payload.slots].reverse()) this.#ram.release(slot);
    this.#options.onRoom();
  }

  /** While something is to be written, something has to come to an end. */
  #watchWrites(hasEnded = false): void {
    const isIdle = this.#writes.size + this.#waiting.length === 0;
    if (isIdle || hasEnded) this.#unwatchWrites();
    if (isIdle || this.#stuckTimer || this.#isClosed) return;
    this.#stuckTimer = setTimeout(() => this.#stuck(), WRITE_PATIENCE_MS);
    this.#stuckTimer.unref();
  }

  #unwatchWrites(): void {
    clearTimeout(this.#stuckTimer ?? undefined);
    this.#stuckTimer = null;
  }

  /** What the store has not begun with gives its memory back; what it has, as soon as it is gathered. */
  #stuck(): void {
    this.#health.failed('stuck', '', this.#options.now());
    for (const ticket of this.#writes.keys()) this.#store.cancel(ticket);
    for (const write of this.#waiting.splice(0)) this.#ended(write, 'cancelled', null);
    this.#watchWrites(true);
    this.#showProblem();
  }

  #written(ticket: number, status: StoreStatus, record: RecordInfo | null): void {
    const write = this.#writes.get(ticket);
    if (!write) return;
    this.#writes.delete(ticket);
    if (status === 'no-space' && !write.isDoomed && this.#canMakeRoom(1)) this.#waiting.push(write);
    else this.#ended(write, status, record);
    this.#watchWrites(status === 'ok');
  }

  #ended(write: Write, status: StoreStatus, record: RecordInfo | null): void {
    const { record: asked, bytes } = write;
    this.#queuedBytes -= bytes;
    if (asked.kind === 'point') this.#queuedPoints.delete(asked.key);
    for (const key of asked.blocks) this.#queuedBlocks.delete(key);
    this.#release(write);
    for (const ended of this.#onWriteEnd.splice(0)) ended();
    if (write.onEnd) queueMicrotask(write.onEnd);
    if (status === 'ok' && record) {
      if (write.isDoomed) {
        this.#left.set(record.id, record.region); // the purge that waits for it destroys it
        this.#pins.dropped(record.key);
        return;
      }
      this.index.add(record);
      this.#undurable.push({ record, tokens: write.tokens });
      this.#pins.written();
      this.#health.succeeded();
    } else {
      for (const key of write.record.blocks) this.#notStored.add(key);
      this.#budget.refund(write.bytes);
      this.#pins.dropped(write.record.key);
      this.#mayHaveOrphans = true;
      if (status === 'io-error') this.#health.failed('write-error', '', this.#options.now());
    }
    this.#sweep();
  }

  /** What was queued behind a segment that is missing hangs on nothing, and never will once nothing is queued. */
  #sweep(): void {
    if (!this.#mayHaveOrphans || this.#isRecovering || this.#writes.size > 0 || this.#waiting.length > 0) return;
    this.#dropOrphans();
    this.#mayHaveOrphans = false;
  }

  // --- restoring ---

  /** See Restores.begin. */
  restore(
    parts: readonly { readonly run: Run; readonly slots: readonly number[] }[],
    point: IndexedRecord | null,
    deadlineMs: number,
    done: (outcome: RestoreOutcome) => void,
  ): () => void {
    return this.#restores.begin(parts, point, deadlineMs, done);
  }

  // --- what clients ask ---

  /** See DiskPins.pin. */
  pin(key: HashKey, untilMs: number | null): Promise<number | null> {
    const queuedBytes = [...this.#writes.values(), ...this.#waiting]
      .filter(({ chain, isDoomed }) => !isDoomed && chain.includes(key))
      .reduce((sum, write) => sum + write.bytes, 0);
    return this.#pins.pin(key, untilMs, queuedBytes, this.#isRecovering);
  }

  select(selection: Selection): { blocks: number; bytes: number; keys: HashKey[] } {
    return this.#totalsOf(this.index.select(selection));
  }

  #totalsOf(records: readonly IndexedRecord[]): { blocks: number; bytes: number; keys: HashKey[] } {
    const keys = records.flatMap((record) => (record.kind === 'segment' ? this.index.blocksOf(record) : []));
    return { blocks: keys.length, bytes: records.reduce((sum, record) => sum + record.storedBytes, 0), keys };
  }

  /**
   * Resolves when it is durable, rejects with CACHE_UNAVAILABLE when the disk cannot be written. `onHidden`: nothing of it can be
   * found here any more, from this very turn on.
   */
  async purge(selection: Selection, onHidden = () => {}): Promise<{ blocks: number; bytes: number; keys: HashKey[] }> {
    // Until recovery is done nobody knows all of it.
    if (this.#isRecovering) await within(PURGE_TIMEOUT_MS, this.#recovered, undefined);
    if (this.#isRecovering) throw unavailable('the index of the disk is still being read');
    const underWay = new Set<Write>();
    this.#doom(selection, underWay);
    if (selection.key !== null) await this.#keepFronts(this.index.select(selection), selection.key);
    this.#doom(selection, underWay); // what was queued meanwhile
    const records = this.index.select(selection);
    const found = this.#totalsOf(records);
    for (const record of records) this.#removed(this.index.remove(record.id, 'purged'));
    onHidden();
    // With it goes what had left the index before, of which nobody knows any more whether it is part of this.
    const isDone = await within(PURGE_TIMEOUT_MS, this.#destroyLeft(underWay), false);
    if (isDone) return found;
    throw unavailable('the disk cannot be written now; what was purged is hidden, and is deleted once it can be');
  }

  #doom({ scopeTag, key, unusedSinceMs }: Selection, underWay: Set<Write>): void {
    if (unusedSinceMs !== null) return;
    for (const write of [...this.#writes.values(), ...this.#waiting]) {
      if (scopeTag !== null && write.record.scope !== scopeTag) continue;
      if (key !== null && !isAt(write, key)) continue;
      write.isDoomed = true;
      underWay.add(write);
    }
  }

  /**
   * A purge takes whole records, but what a segment holds before the purged block belongs to others too: it is written again,
   * as a segment of its own, before the old one goes. Where that fails, others compute it again.
   */
  async #keepFronts(records: readonly IndexedRecord[], key: HashKey): Promise<void> {
    for (const record of records) {
      if (record.kind !== 'segment') continue;
      const blocks = this.index.blocksOf(record);
      const front = blocks.slice(0, Math.max(0, blocks.indexOf(key)));
      if (front.length > 0) await within(PURGE_TIMEOUT_MS, this.#writeFront(record, front), undefined);
    }
  }

  async #writeFront(record: IndexedRecord, blocks: readonly HashKey[]): Promise<void> {
    const slots: number[] = [];
    const missing: Run[] = [];
    blocks.forEach((key, index) => {
      const there = this.#ram.find(key);
      if (there !== undefined) this.#ram.hold(there);
      const slot = there ?? this.#ram.take();
      if (slot === null) return;
      slots.push(slot);
      const { id, region } = record;
      if (there === undefined) missing.push({ id, key: record.key, region, skip: index, first: index, blocks: 1 });
    });
    try {
      if (slots.length < blocks.length || !(await this.#readRuns(missing, slots))) return;
      const last = blocks.at(-1) as HashKey;
      await new Promise<void>((resolve) => {
        const write: Write = {
          record: {
            kind: 'segment',
            key: last,
            parent: record.parent,
            // Not known any more; it only helps to explain misses, and equals no other.
            plain: last,
            identity: record.identity,
            scope: record.scope,
            fromToken: record.fromBlock * BLOCK_TOKENS,
            toToken: (record.fromBlock + blocks.length) * BLOCK_TOKENS,
            blocks,
          },
          payload: { t: 'slots', slots },
          bytes: storedBytes(blocks.length * this.#options.blockPayloadBytes, blocks.length),
          chain: blocks,
          tokens: new Uint32Array(0),
          isDoomed: false,
          isHeld: false,
          onEnd: resolve,
        };
        this.#budget.spend(write.bytes, this.#options.wallNow());
        this.#queue(write);
        this.#append(write);
      });
    } finally {
      for (const slot of slots) this.#ram.release(slot);
      this.#options.onRoom();
    }
  }

  async #readRuns(runs: readonly Run[], slots: readonly number[]): Promise<boolean> {
    if (runs.length === 0) return true;
    const parts = runs.map((run) => ({ run, slots: slots.slice(run.first, run.first + run.blocks) }));
    return new Promise((resolve) => {
      this.restore(parts, null, PURGE_TIMEOUT_MS, ({ ok }) => resolve(ok));
    });
  }

  /** All that left the index, and then, once these have ended, what became of them. */
  async #destroyLeft(underWay: ReadonlySet<Write>): Promise<boolean> {
    if (this.#left.size > 0 && !(await this.#destroy())) return false;
    if (underWay.size === 0) return true;
    const isLeft = (): boolean => [...this.#writes.values(), ...this.#waiting].some((write) => underWay.has(write));
    while (isLeft()) await new Promise<void>((resolve) => this.#onWriteEnd.push(resolve));
    // Also where nothing was written: what failed may stand on the disk, and this comes behind its burial.
    return this.#destroy();
  }

  async #destroy(): Promise<boolean> {
    const ids = [...this.#left.keys()];
    const ticket = ++this.#lastTicket;
    const status = await new Promise<StoreStatus>((resolve) => {
      this.#destroys.set(ticket, resolve);
      this.#store.destroy(ticket, ids);
    });
    if (status === 'ok') for (const id of ids) this.#left.delete(id);
    return status === 'ok';
  }

  stats() {
    const store = this.#store.stats();
    const totals = this.index.totals();
    const nowMs = this.#options.wallNow();
    const pinned = this.index.pinned(nowMs);
    let pinnedBlocks = 0;
    for (const id of pinned) {
      const record = this.index.get(id);
      if (record) pinnedBlocks += record.toBlock - record.fromBlock;
    }
    const tier: Omit<TierStats, 'hitTokens'> = {
      tier: 'disk',
      bytesUsed: store.usedBytes,
      bytesLimit: this.#options.maxBytes,
      blocks: totals.blocks,
      pinnedBlocks,
      evictions: totals.evictedBlocks,
      bytesRead: store.bytesRead,
      bytesWritten: store.bytesAppended + store.bytesReinserted + store.bytesMetadata,
    };
    return {
      tier,
      bytesWrittenToday: this.#budget.spentBytes(nowMs),
      dailyWriteBudgetBytes: this.#options.writeBudgetBytes,
      quarantined: Math.max(store.quarantined, this.#quarantined),
      ioQueued: store.ioQueued,
      readP99Ms: store.readP99Us / 1000,
      recovering: this.#isRecovering,
      problem: this.problem,
    };
  }

  snapshot(): CacheEvent[] {
    const untold = new Set(this.#undurable.map(({ record }) => record.id));
    return [...this.index.records()].flatMap((record) => {
      if (record.kind !== 'segment' || untold.has(record.id)) return [];
      return storedOnDisk(this.index.blocksOf(record), { ...record, fromToken: record.fromBlock * BLOCK_TOKENS });
    });
  }

  flush(): void {
    this.#store.flush();
  }

  /** Everything queued is written, within the store's own deadline. */
  close(): Promise<void> {
    // Requests that were cancelled just now may still take points, and a wake may be on its way: neither finds a store any more.
    this.#isClosed = true;
    this.#unwatchWrites();
    this.#store.onWake = () => {};
    this.#restores.close();
    return this.#store.close();
  }

  // --- events ---

  #drain(): void {
    for (const event of this.#store.drain()) this.#onEvent(event);
    this.#reclaim();
    this.#showProblem();
  }

  #onEvent(event: StoreEvent): void {
    switch (event.t) {
      case 'recovered':
        this.index.add(event.record);
        this.#budget.recovered(event.record.storedBytes, event.record.createdMs, this.#options.wallNow());
        return;
      case 'recovery-done':
        this.#isRecovering = false;
        this.#quarantined += event.damaged;
        this.#dropOrphans();
        this.#pins.recovered((key) => this.#queuedBlocks.has(key) || this.#queuedPoints.has(key));
        this.#reclaimer.recovered();
        this.#onRecovered();
        return;
      case 'gathered':
        this.#release(this.#writes.get(event.ticket));
        return;
      case 'written':
        this.#written(event.ticket, event.status, event.record);
        return;
      case 'durable': {
        const durable = this.#undurable.filter(({ record }) => record.id <= event.upTo);
        this.#undurable = this.#undurable.filter(({ record }) => record.id > event.upTo);
        for (const { record, tokens } of durable) {
          if (record.kind !== 'segment') continue;
          for (const told of storedOnDisk(record.blocks, record, tokens)) this.#options.onEvent(told);
        }
        return;
      }
      case 'lost':
        this.#undurable = this.#undurable.filter(({ record }) => record.id !== event.id);
        for (const { key } of this.#removed(this.index.remove(event.id, 'evicted'))) this.#notStored.add(key);
        this.#health.failed('write-error', 'the disk lost what it had taken', this.#options.now());
        this.#sweep();
        return;
      case 'read':
        this.#restores.ended(event);
        return;
      case 'moved':
        this.#watchWrites(true);
        this.index.moved(event.id, event.region);
        if (this.#left.has(event.id)) this.#left.set(event.id, event.region);
        this.#budget.spend(this.index.get(event.id)?.storedBytes ?? 0, this.#options.wallNow());
        return;
      case 'sealed':
        this.#reclaimer.sealed(event.region);
        return;
      case 'reclaimed':
        if (event.ticket !== this.#reclaimTicket) return;
        this.#reclaimTicket = 0;
        this.#watchWrites(true);
        this.#reclaimer.done(event.status);
        if (event.status === 'ok')
          for (const [id, region] of this.#left) if (region === event.region) this.#left.delete(id);
        this.#failedReclaims = event.status === 'ok' ? 0 : this.#failedReclaims + 1;
        if (event.status === 'ok') for (const write of this.#waiting.splice(0)) this.#append(write);
        else if (!this.#canMakeRoom())
          for (const write of this.#waiting.splice(0)) this.#ended(write, 'no-space', null);
        return;
      case 'destroyed':
        this.#destroys.get(event.ticket)?.(event.status);
        this.#destroys.delete(event.ticket);
        return;
      case 'health':
        this.#isFull = event.status === 'no-space';
        this.#health.writes(event.status, event.text);
        return;
    }
  }

  /** @param more attempts, even if no region could be reclaimed before. */
  #canMakeRoom(more = 0): boolean {
    if (this.#reclaimTicket !== 0) return true;
    this.#failedReclaims = Math.min(this.#failedReclaims, Math.max(0, this.#reclaimer.sealedRegions - more));
    this.#reclaim();
    return this.#reclaimTicket !== 0;
  }

  #reclaim(): void {
    if (this.#reclaimTicket !== 0 || this.#isRecovering) return;
    // Each region was tried in vain: from now on only a write that finds no room has it tried again.
    if (this.#failedReclaims > 0 && this.#failedReclaims >= this.#reclaimer.sealedRegions) return;
    const room = this.#store.stats();
    // A file system that others filled: what little there is is worth more than what would take its place.
    if (this.#isFull && room.regionsTotal < RECLAIMED_REGIONS_MIN) return;
    const plan = this.#reclaimer.next(room, !this.#isFull, this.#options.wallNow());
    if (!plan) return;
    this.#removed(plan.dropped);
    this.#reclaimTicket = ++this.#lastTicket;
    this.#store.reclaim(this.#reclaimTicket, plan.region, plan.keep);
  }

  /** A record that was to be read is not what it should be, or not there. */
  #lostRecord(id: number, why: 'corrupt' | 'evicted'): void {
    this.#removed(this.index.remove(id, why));
    if (why === 'corrupt') this.#quarantined += 1;
  }

  #dropOrphans(): void {
    this.#removed(this.index.dropOrphans());
  }

  #removed(records: readonly IndexedRecord[]): readonly IndexedRecord[] {
    this.#mayHaveOrphans = true;
    for (const record of records) {
      if (record.kind !== 'segment') continue;
      for (const key of this.index.blocksOf(record)) {
        this.#options.onEvent(removed('disk', key, record.scope));
      }
    }
    return records;
  }

  /** Until the process ends: nothing is written any more, and nothing read. */
  #giveUp(words: string): void {
    this.#health.giveUp(words);
    this.#showProblem();
  }

  #showProblem(): void {
    const { condition } = this.#health;
    if (condition === this.#shownCondition) return;
    this.#shownCondition = condition;
    this.#options.onProblem(this.problem);
  }
}

function unavailable(message: string): Failure {
  return new Failure('CACHE_UNAVAILABLE', message);
}
