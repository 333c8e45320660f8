// A KvStore in memory: regions, sealing, reclaim, destruction, group commit, restart, and seeded failures and delays.
// Payloads are kept only with a FakeKvMemory to copy them from; else what a record's header says. Commands end when their
// delay is over, or all at once by settle(). Same seed, same commands, same events.

import type {
  HashKey,
  KvStore,
  NewRecord,
  Payload,
  RecordInfo,
  StoredPoint,
  StoredSegment,
  StoreEvent,
  StoreStats,
  StoreStatus,
} from '../../src/kv/store.js';
import type { FakeKvMemory, FakePayload } from './fake-kv-memory.js';

export interface FakeStoreOptions {
  /** Default 1 MiB. */
  readonly regionBytes?: number;
  /** Default 16. */
  readonly regions?: number;
  /** Payload of a segment's block, and of a point; default 1000 and 4000. */
  readonly blockBytes?: number;
  readonly pointBytes?: number;
  /** Header and padding are counted as this; default 4096. */
  readonly headerBytes?: number;
  readonly seed?: number;
  /** How long a command takes, at least and at most; null: until settle(). Default 0 to 0: the next turn. */
  readonly delayMs?: readonly [number, number] | null;
  /** Probabilities that a command ends with that status, or that a written record is lost. */
  readonly faults?: Partial<Record<FakeFault, number>>;
  /** What is written becomes durable at once, or only by flush(), so that a crash can lose it. Default 'each'. */
  readonly commit?: 'each' | 'flush';
  /** Wall clock for createdMs. */
  readonly now?: () => number;
  /** RAM that payloads are copied out of and into; null: none, and points that are read get numbers of their own. */
  readonly memory?: FakeKvMemory | null;
}

export type FakeFault = 'write-error' | 'read-error' | 'corrupt' | 'lost' | 'reclaim-error' | 'destroy-error';

type RegionState = 'free' | 'open' | 'sealed';
type RegionClass = 'segment' | 'point' | 'reinserted';

interface Region {
  state: RegionState;
  usedBytes: number;
  /** Of records that lie or lay in it. */
  readonly ids: number[];
}

interface Command {
  /** null: it cannot be cancelled. */
  readonly ticket: number | null;
  /** What follows when it is. */
  readonly onCancel?: () => void;
  readonly dueMs: number;
  readonly run: () => void;
}

export class FakeStore implements KvStore {
  onWake = (): void => {};
  readonly secret: Uint8Array;
  readonly directory = '/fake/kv';
  readonly backend = 'pool';
  readonly remark = 'a fake';
  /** While true nothing ends, as on a disk that hangs; cancel still works. */
  hangs = false;
  /** What every write ends with while it is not 'ok'. */
  health: StoreStatus = 'ok';
  /** Ids in the order in which they were read and written. */
  readonly readIds: number[] = [];
  readonly writtenIds: number[] = [];

  readonly #options: Required<FakeStoreOptions>;
  readonly #records = new Map<number, RecordInfo>();
  readonly #payloads = new Map<number, FakePayload>();
  readonly #regions: Region[];
  readonly #open = new Map<RegionClass, number>();
  /** Sealed regions, the oldest first; and free ones. */
  readonly #sealOrder = new Set<number>();
  readonly #free: number[] = [];
  #liveBytes = 0;
  readonly #forced = new Map<FakeFault, number>();
  #memory: FakeKvMemory | null;
  #random: () => number;
  #commands: Command[] = [];
  #events: StoreEvent[] = [];
  #timer: NodeJS.Timeout | null = null;
  #wakeDue = false;
  #isClosed = false;
  #lastWriteDueMs = 0;
  #queuedBytes = 0;
  #lastId = 0;
  #durableId = 0;
  #numPoints = 0;
  #bytes = { appended: 0, reinserted: 0, read: 0 };
  #quarantined = 0;
  #numFaults = 0;

  constructor(options: FakeStoreOptions = {}) {
    this.#options = {
      regionBytes: 1 << 20,
      regions: 16,
      blockBytes: 1000,
      pointBytes: 4000,
      headerBytes: 4096,
      seed: 1,
      delayMs: [0, 0],
      faults: {},
      commit: 'each',
      now: Date.now,
      memory: null,
      ...options,
    };
    this.#memory = this.#options.memory;
    this.#random = seeded(this.#options.seed);
    this.secret = Uint8Array.from({ length: 32 }, () => Math.floor(this.#random() * 256));
    this.#regions = Array.from({ length: this.#options.regions }, () => ({
      state: 'free',
      usedBytes: 0,
      ids: [],
    }));
    this.#free.push(...this.#regions.keys());
  }

  drain(): StoreEvent[] {
    const events = this.#events;
    this.#events = [];
    return events;
  }

  append(ticket: number, record: NewRecord, payload: Payload): void {
    const payloadBytes = this.#payloadBytes(record);
    const blocks = payload.t === 'slots' ? payload.slots.length : 0;
    if (record.kind === 'segment' ? blocks !== record.blocks.length : payload.t !== 'point')
      throw new Error(`append: a ${record.kind} with a payload of ${payload.t}, ${blocks} blocks`);
    this.#queuedBytes += payloadBytes;
    const memory = this.#memory;
    const copy = memory?.copyOut(payload);
    const onCancel = (): void => {
      this.#queuedBytes -= payloadBytes;
      this.#emit({ t: 'written', ticket, status: 'cancelled', record: null });
    };
    const write = (): void => {
      this.#queuedBytes -= payloadBytes;
      if (copy) memory?.mustEqual(payload, copy);
      const storedBytes = payloadBytes + this.#options.headerBytes;
      const problem = this.#writeProblem('write-error');
      const region = problem === 'ok' ? this.#room(record.kind, storedBytes) : null;
      if (region === null) {
        this.#emit({ t: 'written', ticket, status: problem === 'ok' ? 'no-space' : problem, record: null });
        return;
      }
      this.#emit({ t: 'gathered', ticket });
      const id = ++this.#lastId;
      const written = { ...record, id, region, storedBytes, payloadBytes, createdMs: this.#options.now() };
      this.#records.set(id, written);
      this.#liveBytes += storedBytes;
      this.#regions[region]?.ids.push(id);
      if (copy) this.#payloads.set(id, copy);
      this.#bytes.appended += storedBytes;
      this.writtenIds.push(id);
      this.#emit({ t: 'written', ticket, status: 'ok', record: written });
      if (this.#happens('lost')) {
        this.#forget(id);
        this.#emit({ t: 'lost', id });
      }
      if (this.#options.commit === 'each') this.#commits();
    };
    this.#writes(write, ticket, onCancel);
  }

  readBlocks(ticket: number, { id, key }: StoredSegment, skip: number, slots: readonly number[]): void {
    this.#reads(ticket, id, key, (record) => {
      if (record.kind !== 'segment' || skip + slots.length > record.blocks.length)
        throw new Error(`readBlocks: blocks ${skip} + ${slots.length} of record ${id}`);
      const payload = this.#payloads.get(id);
      if (payload?.t === 'blocks') this.#memory?.copyBlocksIn(payload.rows.slice(skip), slots);
      return { bytes: slots.length * this.#options.blockBytes, point: null };
    });
  }

  readPoint(ticket: number, { id, key }: StoredPoint): void {
    this.#reads(ticket, id, key, (record) => {
      if (record.kind !== 'point') throw new Error(`readPoint: record ${id} is a ${record.kind}`);
      const payload = this.#payloads.get(id);
      const point = payload?.t === 'point' ? this.#memory?.addPoint(payload.point) : ++this.#numPoints;
      return { bytes: record.payloadBytes, point: point as number };
    });
  }

  verify(ticket: number, { id, key }: Pick<RecordInfo, 'id' | 'key' | 'payloadBytes'>): void {
    this.#reads(ticket, id, key, (record) => ({ bytes: record.payloadBytes, point: null }));
  }

  cancel(ticket: number): void {
    const waiting = this.#commands.findIndex((command) => command.ticket === ticket);
    if (waiting < 0) return;
    const [command] = this.#commands.splice(waiting, 1);
    if (command?.onCancel) command.onCancel();
    else this.#emit({ t: 'read', ticket, status: 'cancelled', bytes: 0, point: null });
  }

  reclaim(ticket: number, region: number, keep: readonly number[]): void {
    this.#writes(() => {
      const end = (status: StoreStatus): void => this.#emit({ t: 'reclaimed', ticket, status, region });
      if (this.#regions[region]?.state !== 'sealed') throw new Error(`reclaim: region ${region} is not sealed`);
      const problem = this.#writeProblem('reclaim-error');
      if (problem !== 'ok') return end(problem);
      const kept = keep.flatMap((id) => this.#records.get(id) ?? []);
      if (kept.some((record) => record.region !== region)) throw new Error('reclaim: keeps what lies elsewhere');
      if (!this.#hasRoom('reinserted', kept)) return end('no-space');
      for (const record of kept) {
        const to = this.#room('reinserted', record.storedBytes) as number;
        this.#records.set(record.id, { ...record, region: to });
        this.#regions[to]?.ids.push(record.id);
        this.#bytes.reinserted += record.storedBytes;
        this.#emit({ t: 'moved', id: record.id, region: to });
      }
      for (const record of this.#in(region)) this.#forget(record.id);
      this.#regions[region] = { state: 'free', usedBytes: 0, ids: [] };
      this.#sealOrder.delete(region);
      this.#free.push(region);
      end('ok');
    });
  }

  destroy(ticket: number, ids: readonly number[]): void {
    this.#writes(() => {
      for (const id of ids) this.#forget(id);
      this.#emit({ t: 'destroyed', ticket, status: this.#writeProblem('destroy-error') });
    });
  }

  flush(): void {
    this.#writes(() => this.#commits());
  }

  stats(): StoreStats {
    const { regionBytes, regions } = this.#options;
    return {
      regionsTotal: regions,
      regionsFree: this.#free.length,
      regionsOpen: this.#open.size,
      regionsSealed: this.#sealOrder.size,
      regionsLimit: regions,
      regionBytes,
      usedBytes: regionBytes * regions,
      liveBytes: this.#liveBytes,
      records: this.#records.size,
      queuedBytes: this.#queuedBytes,
      bytesAppended: this.#bytes.appended,
      bytesReinserted: this.#bytes.reinserted,
      bytesMetadata: 0,
      bytesRead: this.#bytes.read,
      quarantined: this.#quarantined,
      readP99Us: 0,
      ioQueued: this.#commands.length,
      recovering: false,
      faults: this.#numFaults,
    };
  }

  close(): Promise<void> {
    this.settle();
    this.#isClosed = true;
    if (this.#timer) clearTimeout(this.#timer);
    return Promise.resolve();
  }

  /** Everything that waits, or the first `most` of it, ends now, in order; onWake is called later, as always. */
  settle(most = Infinity): void {
    for (let left = most; left > 0 && !this.hangs && this.#commands.length > 0; left--) this.#commands.shift()?.run();
  }

  /** The next so many commands of that kind end badly, whatever the probabilities. */
  failNext(fault: FakeFault, times = 1): void {
    this.#forced.set(fault, (this.#forced.get(fault) ?? 0) + times);
  }

  /** What the store would report by itself: that its disk is ill, or well again. */
  reportHealth(status: StoreStatus, text: string): void {
    this.health = status;
    this.#emit({ t: 'health', status, text });
  }

  /** The same directory opened again after a clean end ('close') or a crash, which loses what was not durable. */
  reopened(how: 'close' | 'crash', options: Omit<FakeStoreOptions, 'regionBytes' | 'regions'> = {}): FakeStore {
    const next = new FakeStore({ ...this.#options, memory: null, ...options });
    next.secret.set(this.secret);
    for (const record of this.#records.values())
      if (how === 'close' || record.id <= this.#durableId) {
        next.#records.set(record.id, record);
        next.#liveBytes += record.storedBytes;
      }
    for (const [id, payload] of this.#payloads) if (next.#records.has(id)) next.#payloads.set(id, payload);
    next.#lastId = this.#lastId;
    next.#durableId = this.#lastId;
    next.#regions.splice(0, Infinity, ...this.#regions.map((region) => ({ ...region, ids: [...region.ids] })));
    const found = [...next.#records.values()].sort(() => next.#random() - 0.5);
    for (const record of found) next.#emit({ t: 'recovered', record });
    for (const region of [...this.#sealOrder, ...this.#open.values()]) next.#sealOrder.add(region);
    next.#free.splice(0, Infinity, ...this.#free);
    for (const region of next.#sealOrder) {
      (next.#regions[region] as Region).state = 'sealed';
      next.#emit({ t: 'sealed', region });
    }
    next.#emit({ t: 'recovery-done', damaged: 0 });
    return next;
  }

  /** An empty directory has been looked through. */
  reportRecovered(): void {
    this.#emit({ t: 'recovery-done', damaged: 0 });
  }

  /** RAM of the process that opened it; before anything is written or read. */
  useMemory(memory: FakeKvMemory): void {
    this.#memory = memory;
  }

  /** What lies there now. */
  records(): readonly RecordInfo[] {
    return [...this.#records.values()];
  }

  #payloadBytes(record: NewRecord): number {
    return record.kind === 'point' ? this.#options.pointBytes : record.blocks.length * this.#options.blockBytes;
  }

  #reads(
    ticket: number,
    id: number,
    key: HashKey,
    read: (record: RecordInfo) => { bytes: number; point: number | null },
  ): void {
    const end = (status: StoreStatus, bytes = 0, point: number | null = null): void =>
      this.#emit({ t: 'read', ticket, status, bytes, point });
    this.#later(ticket, this.#delay(), () => {
      const record = this.#records.get(id);
      if (!record) return end('not-found');
      if (this.#happens('read-error')) return end('io-error');
      if (record.key !== key || this.#happens('corrupt')) {
        this.#forget(id);
        this.#quarantined++;
        return end('corrupt');
      }
      const { bytes, point } = read(record);
      this.readIds.push(id);
      this.#bytes.read += bytes;
      end('ok', bytes, point);
    });
  }

  /** Writes end in the order in which they came. */
  #writes(run: () => void, ticket: number | null = null, onCancel?: () => void): void {
    this.#lastWriteDueMs = Math.max(this.#lastWriteDueMs, this.#delay());
    this.#later(ticket, this.#lastWriteDueMs, run, onCancel);
  }

  #delay(): number {
    const [least, most] = this.#options.delayMs ?? [0, 0];
    return performance.now() + least + this.#random() * (most - least);
  }

  #later(ticket: number | null, dueMs: number, run: () => void, onCancel?: () => void): void {
    if (this.#isClosed) throw new Error('the store is closed');
    const before = this.#commands.findIndex((command) => command.dueMs > dueMs);
    this.#commands.splice(before < 0 ? this.#commands.length : before, 0, {
      ticket,
      dueMs,
      run,
      ...(onCancel && { onCancel }),
    });
    this.#arm();
  }

  #arm(): void {
    const next = this.#commands[0];
    if (!next || this.#options.delayMs === null || this.#isClosed) return;
    if (this.#timer) clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => {
        this.#timer = null;
        while (!this.hangs && (this.#commands[0]?.dueMs ?? Infinity) <= performance.now())
          this.#commands.shift()?.run();
        this.#arm();
      },
      // A disk that hangs is looked at again now and then.
      this.hangs ? 5 : Math.max(0, next.dueMs - performance.now()),
    );
    this.#timer.unref();
  }

  #emit(event: StoreEvent): void {
    this.#events.push(event);
    if (this.#wakeDue) return;
    this.#wakeDue = true;
    setImmediate(() => {
      this.#wakeDue = false;
      if (!this.#isClosed && this.#events.length > 0) this.onWake();
    });
  }

  /** One 'durable' for all that was written before it. */
  #commits(): void {
    if (this.#durableId === this.#lastId) return;
    this.#durableId = this.#lastId;
    this.#emit({ t: 'durable', upTo: this.#lastId });
  }

  #happens(fault: FakeFault): boolean {
    const forced = this.#forced.get(fault) ?? 0;
    if (forced > 0) this.#forced.set(fault, forced - 1);
    const probability = this.#options.faults[fault] ?? 0;
    const happens = forced > 0 || (probability > 0 && this.#random() < probability);
    if (happens) this.#numFaults++;
    return happens;
  }

  #writeProblem(fault: FakeFault): StoreStatus {
    return this.#happens(fault) ? 'io-error' : this.health;
  }

  /** A region of this class with room; seals the one that has none and opens a free one; null: there is none. */
  #room(kind: RegionClass, bytes: number): number | null {
    if (bytes > this.#options.regionBytes) throw new Error(`a record of ${bytes} bytes fits no region`);
    let open = this.#open.get(kind);
    if (open !== undefined && (this.#regions[open] as Region).usedBytes + bytes > this.#options.regionBytes) {
      (this.#regions[open] as Region).state = 'sealed';
      this.#sealOrder.add(open);
      this.#open.delete(kind);
      this.#emit({ t: 'sealed', region: open });
      open = undefined;
    }
    if (open === undefined) {
      open = this.#free.shift();
      if (open === undefined) return null;
      this.#regions[open] = { state: 'open', usedBytes: 0, ids: [] };
      this.#open.set(kind, open);
    }
    (this.#regions[open] as Region).usedBytes += bytes;
    return open;
  }

  #hasRoom(kind: RegionClass, records: readonly RecordInfo[]): boolean {
    const { regionBytes } = this.#options;
    const open = this.#open.get(kind);
    let left = open === undefined ? 0 : regionBytes - (this.#regions[open] as Region).usedBytes;
    let free = this.#free.length;
    for (const { storedBytes } of records) {
      if (storedBytes > left) {
        if (free-- === 0) return false;
        left = regionBytes;
      }
      left -= storedBytes;
    }
    return true;
  }

  #forget(id: number): void {
    this.#liveBytes -= this.#records.get(id)?.storedBytes ?? 0;
    this.#records.delete(id);
  }

  #in(region: number): RecordInfo[] {
    return (this.#regions[region] as Region).ids
      .flatMap((id) => this.#records.get(id) ?? [])
      .filter((record) => record.region === region);
  }
}

/** Mulberry32. */
function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
