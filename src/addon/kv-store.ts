// The KvStore on a real disk: records and events as bytes to and from the addon (native/abi/store.h).

import { bytesOf } from '../kv/chain-hash.js';
import type {
  KvStore,
  NewRecord,
  Payload,
  RecordInfo,
  StoredPoint,
  StoredSegment,
  StoreEvent,
  StoreStats,
  StoreStatus,
} from '../kv/store.js';
import { StoredRecord, StoreEventHeader } from './layout.js';
import type { EngineHandle, NativeAddon, OpenStoreOptions, StoreDescription, StoreHandle } from './load.js';
import { getUint64 } from './report-bytes.js';

/** What one turn takes in: some 500 recovered records, a millisecond or two. */
const DRAIN_BYTES = 512 * 1024;
const HASH_BYTES = 32;
const TAG_BYTES = 16;

const STATUSES: readonly StoreStatus[] = [
  'ok',
  'not-found',
  'corrupt',
  'io-error',
  'no-space',
  'cancelled',
  'read-only',
];

export class NativeKvStore implements KvStore {
  onWake = (): void => {};
  readonly #addon: NativeAddon;
  readonly #handle: StoreHandle;
  readonly #engine: EngineHandle | null;
  readonly #description: StoreDescription;
  readonly #events = Buffer.alloc(DRAIN_BYTES);
  #closed: Promise<void> | null = null;

  private constructor(
    addon: NativeAddon,
    handle: StoreHandle,
    engine: EngineHandle | null,
    readonly directory: string,
  ) {
    this.#addon = addon;
    this.#handle = handle;
    this.#engine = engine;
    this.#description = addon.describeStore(handle);
  }

  /** `engine`: whose memory records are read into and written from; null: only for looking and verifying. */
  static async open(
    addon: NativeAddon,
    options: OpenStoreOptions,
    engine: EngineHandle | null,
  ): Promise<NativeKvStore> {
    let wake = (): void => {};
    const handle = await addon.openStore(options, () => wake());
    const store = new NativeKvStore(addon, handle, engine, options.directory);
    wake = () => {
      if (!store.#closed) store.onWake();
    };
    // Recovery may have begun to speak before there was anybody to hear it.
    setImmediate(wake);
    return store;
  }

  get secret(): Uint8Array {
    return this.#description.secret;
  }

  get backend(): string {
    return this.#description.backend;
  }

  get remark(): string {
    return this.#description.remark;
  }

  get maxBytes(): number {
    return this.#description.maxBytes;
  }

  get regionBytes(): number {
    return this.#description.regionBytes;
  }

  drain(): StoreEvent[] {
    const bytes = this.#addon.drainStore(this.#handle, this.#events);
    if (bytes === 0) return [];
    // The rest in another turn of the event loop: recovery of a large directory must not hold up requests.
    setImmediate(() => this.onWake());
    return decodeEvents(this.#events.subarray(0, bytes));
  }

  append(ticket: number, record: NewRecord, payload: Payload): void {
    const slots = payload.t === 'slots' ? Uint32Array.from(payload.slots) : null;
    const point = payload.t === 'point' ? payload.point : 0;
    this.#addon.storeAppend(this.#handle, this.#memory(), ticket, encodeRecord(record), slots, point);
  }

  readBlocks(
    ticket: number,
    { id, key, blocks }: StoredSegment,
    skip: number,
    slots: readonly number[],
    isUrgent: boolean,
  ): void {
    const into = Uint32Array.from(slots);
    this.#addon.storeReadBlocks(this.#handle, this.#memory(), ticket, id, bytesOf(key), blocks, skip, into, isUrgent);
  }

  readPoint(ticket: number, { id, key, position }: StoredPoint, isUrgent: boolean): void {
    this.#addon.storeReadPoint(this.#handle, this.#memory(), ticket, id, bytesOf(key), position, isUrgent);
  }

  verify(ticket: number, { id, key, payloadBytes }: Pick<RecordInfo, 'id' | 'key' | 'payloadBytes'>): void {
    this.#addon.storeVerify(this.#handle, ticket, id, bytesOf(key), payloadBytes);
  }

  cancel(ticket: number): void {
    this.#addon.storeCancel(this.#handle, ticket);
  }

  reclaim(ticket: number, region: number, keep: readonly number[]): void {
    this.#addon.storeReclaim(this.#handle, ticket, region, Float64Array.from(keep));
  }

  destroy(ticket: number, ids: readonly number[]): void {
    this.#addon.storeDestroy(this.#handle, ticket, Float64Array.from(ids));
  }

  flush(): void {
    this.#addon.storeFlush(this.#handle);
  }

  stats(): StoreStats {
    return this.#addon.storeStats(this.#handle);
  }

  close(): Promise<void> {
    this.#closed ??= this.#addon.closeStore(this.#handle);
    return this.#closed;
  }

  #memory(): EngineHandle {
    if (!this.#engine) throw new Error('this store was opened without a model: it has no rows to read or write');
    return this.#engine;
  }
}

function encodeRecord(record: NewRecord): Uint8Array {
  const bytes = Buffer.alloc(StoredRecord.size + record.blocks.length * HASH_BYTES);
  bytes.writeUInt32LE(record.kind === 'segment' ? 1 : 2, StoredRecord.kind);
  bytes.writeUInt32LE(record.fromToken, StoredRecord.fromToken);
  bytes.writeUInt32LE(record.toToken, StoredRecord.toToken);
  bytes.writeUInt32LE(record.blocks.length, StoredRecord.numBlocks);
  bytes.write(record.key, StoredRecord.key, 'latin1');
  bytes.write(record.parent, StoredRecord.parent, 'latin1');
  bytes.write(record.plain, StoredRecord.plain, 'latin1');
  bytes.write(record.identity, StoredRecord.identity, 'latin1');
  bytes.write(record.scope, StoredRecord.scope, 'latin1');
  bytes.write(record.blocks.join(''), StoredRecord.size, 'latin1');
  return bytes;
}

/** Throws on bytes that native never writes: a bug. */
export function decodeEvents(bytes: Buffer): StoreEvent[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const events: StoreEvent[] = [];
  for (let at = 0; at < bytes.length; ) {
    const size = view.getUint32(at + StoreEventHeader.bytes, true);
    if (size < StoreEventHeader.size || at + size > bytes.length) throw new Error(`store event claims ${size} bytes`);
    events.push(decodeEvent(bytes, view, at));
    at += size;
  }
  return events;
}

function decodeEvent(bytes: Buffer, view: DataView, at: number): StoreEvent {
  const ticket = getUint64(view, at + StoreEventHeader.ticket);
  const number = getUint64(view, at + StoreEventHeader.number);
  const point = getUint64(view, at + StoreEventHeader.point);
  const status = STATUSES[view.getUint32(at + StoreEventHeader.status, true)] ?? 'io-error';
  const recordAt = at + StoreEventHeader.size;
  const hasRecord = view.getUint32(at + StoreEventHeader.hasRecord, true) === 1;
  const record = hasRecord ? decodeRecord(bytes, view, recordAt) : null;
  const textAt = recordAt + (record ? StoredRecord.size + record.blocks.length * HASH_BYTES : 0);
  const text = bytes.toString('utf8', textAt, textAt + view.getUint32(at + StoreEventHeader.textBytes, true));
  const kind = view.getUint32(at + StoreEventHeader.kind, true);
  switch (kind) {
    case 1:
      return { t: 'recovered', record: record as RecordInfo };
    case 2:
      return { t: 'recovery-done', damaged: number };
    case 3:
      return { t: 'written', ticket, status, record };
    case 4:
      return { t: 'durable', upTo: number };
    case 5:
      return { t: 'lost', id: number };
    case 6:
      return { t: 'read', ticket, status, bytes: number, point: point === 0 ? null : point };
    case 7:
      return { t: 'reclaimed', ticket, status, region: number };
    case 8:
      return { t: 'moved', id: (record as RecordInfo).id, region: (record as RecordInfo).region };
    case 9:
      return { t: 'destroyed', ticket, status };
    case 10:
      return { t: 'health', status, text };
    case 11:
      return { t: 'sealed', region: number };
    case 12:
      return { t: 'gathered', ticket: number };
    default:
      throw new Error(`store event of unknown kind ${kind}`);
  }
}

function decodeRecord(bytes: Buffer, view: DataView, at: number): RecordInfo {
  const text = (offset: number, length: number): string => bytes.toString('latin1', at + offset, at + offset + length);
  const numBlocks = view.getUint32(at + StoredRecord.numBlocks, true);
  return {
    id: getUint64(view, at + StoredRecord.id),
    kind: view.getUint32(at + StoredRecord.kind, true) === 1 ? 'segment' : 'point',
    key: text(StoredRecord.key, HASH_BYTES),
    parent: text(StoredRecord.parent, HASH_BYTES),
    identity: text(StoredRecord.identity, TAG_BYTES),
    scope: text(StoredRecord.scope, TAG_BYTES),
    plain: text(StoredRecord.plain, HASH_BYTES),
    fromToken: view.getUint32(at + StoredRecord.fromToken, true),
    toToken: view.getUint32(at + StoredRecord.toToken, true),
    createdMs: getUint64(view, at + StoredRecord.createdMs),
    payloadBytes: getUint64(view, at + StoredRecord.payloadBytes),
    blocks: Array.from({ length: numBlocks }, (_, index) => text(StoredRecord.size + index * HASH_BYTES, HASH_BYTES)),
    region: view.getUint32(at + StoredRecord.region, true),
    storedBytes: getUint64(view, at + StoredRecord.storedBytes),
  };
}
