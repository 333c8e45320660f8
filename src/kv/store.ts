// The disk as policy sees it: native/store behind addon/, a fake one in tests. Commands return at once and are answered by
// events, which `drain` hands out in order. Hashes are 32 bytes as latin-1 strings (`HashKey`), so that they are Map keys.

/** A chain hash: 32 bytes, one character a byte. */
export type HashKey = string & { readonly brand?: 'HashKey' };

export type RecordKind = 'segment' | 'point';

/** What a record's header says; payloads never come to JavaScript. */
export interface RecordInfo {
  /** Given by the store; unique for the life of a directory. Grows with time. */
  readonly id: number;
  readonly kind: RecordKind;
  /** Chain hash of every token up to `toToken`. */
  readonly key: HashKey;
  /** Chain hash up to `fromToken`; of a point: its key. */
  readonly parent: HashKey;
  /** 16 bytes each, of the model's identity and of the tenant's scope. */
  readonly identity: string;
  readonly scope: string;
  /** Chain hash up to `toToken` without identity and scope. */
  readonly plain: HashKey;
  /** Multiples of 128; equal for a point. */
  readonly fromToken: number;
  readonly toToken: number;
  readonly createdMs: number;
  readonly payloadBytes: number;
  /** Segments: chain hash at the end of each block, the last is `key`. */
  readonly blocks: readonly HashKey[];
  readonly region: number;
  /** What it takes on disk. */
  readonly storedBytes: number;
}

export type NewRecord = Omit<RecordInfo, 'id' | 'region' | 'storedBytes' | 'payloadBytes' | 'createdMs'>;

/** native/store/store.h says what the caller does with each. */
export type StoreStatus = 'ok' | 'not-found' | 'corrupt' | 'io-error' | 'no-space' | 'cancelled' | 'read-only';

export type StoreEvent =
  | { readonly t: 'recovered'; readonly record: RecordInfo }
  | { readonly t: 'recovery-done'; readonly damaged: number }
  /** Readable from now on, durable with the next 'durable'. `record` when ok. */
  | { readonly t: 'written'; readonly ticket: number; readonly status: StoreStatus; readonly record: RecordInfo | null }
  /** What was to be appended is copied: its slots or point are not read any more. */
  | { readonly t: 'gathered'; readonly ticket: number }
  /** Every written record with id <= upTo that was not lost is durable. */
  | { readonly t: 'durable'; readonly upTo: number }
  | { readonly t: 'lost'; readonly id: number }
  /** `point`: handle of the restored point in RAM, for reads of points. */
  | {
      readonly t: 'read';
      readonly ticket: number;
      readonly status: StoreStatus;
      readonly bytes: number;
      readonly point: number | null;
    }
  | { readonly t: 'moved'; readonly id: number; readonly region: number }
  | { readonly t: 'reclaimed'; readonly ticket: number; readonly status: StoreStatus; readonly region: number }
  | { readonly t: 'sealed'; readonly region: number }
  | { readonly t: 'destroyed'; readonly ticket: number; readonly status: StoreStatus }
  /** What the disk last met when it wrote; 'ok': well again. */
  | { readonly t: 'health'; readonly status: StoreStatus; readonly text: string };

export interface StoreStats {
  readonly regionsTotal: number;
  readonly regionsFree: number;
  readonly regionsOpen: number;
  readonly regionsSealed: number;
  /** As many as the quota allows. */
  readonly regionsLimit: number;
  readonly regionBytes: number;
  /** Of the directory, everything counted. */
  readonly usedBytes: number;
  readonly liveBytes: number;
  readonly records: number;
  readonly queuedBytes: number;
  readonly bytesAppended: number;
  readonly bytesReinserted: number;
  readonly bytesMetadata: number;
  readonly bytesRead: number;
  readonly quarantined: number;
  readonly readP99Us: number;
  readonly ioQueued: number;
  readonly recovering: boolean;
  readonly faults: number;
}

/** Which RAM a payload lies in: slots of the block pool (segments, first block first), or a point's handle. */
export type Payload =
  | { readonly t: 'slots'; readonly slots: readonly number[] }
  | { readonly t: 'point'; readonly point: number };

export interface StoredSegment {
  readonly id: number;
  readonly key: HashKey;
  /** In all of it. */
  readonly blocks: number;
}

export interface StoredPoint {
  readonly id: number;
  readonly key: HashKey;
  /** Tokens before it. */
  readonly position: number;
}

export interface KvStore {
  /** Called when events wait, never from inside another method. */
  onWake: () => void;
  drain(): StoreEvent[];
  /** Slots and point must stay as they are until 'gathered', or 'written' where that does not come. */
  append(ticket: number, record: NewRecord, payload: Payload): void;
  /** Reads into slots what follows the first `skip` blocks of a segment of `blocks` blocks. */
  readBlocks(ticket: number, segment: StoredSegment, skip: number, slots: readonly number[], isUrgent: boolean): void;
  readPoint(ticket: number, point: StoredPoint, isUrgent: boolean): void;
  /** Checks a whole record without keeping it. */
  verify(ticket: number, record: Pick<RecordInfo, 'id' | 'key' | 'payloadBytes'>): void;
  /**
   * The 'read' follows at once, whatever the disk does; slots may be used again after it. An append of which nothing has gone to
   * the disk yet is answered at once too; another goes on.
   */
  cancel(ticket: number): void;
  /** `keep` in the order in which they are to be written again. */
  reclaim(ticket: number, region: number, keep: readonly number[]): void;
  destroy(ticket: number, ids: readonly number[]): void;
  flush(): void;
  stats(): StoreStats;
  /** 32 random bytes of the directory. */
  readonly secret: Uint8Array;
  readonly directory: string;
  /** 'io_uring', 'pool' or 'mmap', and why it is not another. */
  readonly backend: string;
  readonly remark: string;
  close(): Promise<void>;
}

const CRC_CHUNK_BYTES = 65_536;
export const PAGE_BYTES = 4096;

/** What a record takes on disk, at least as much as it really does: header pages with checksums and hashes, payload, padding. */
export function storedBytes(payloadBytes: number, blocks: number): number {
  const header = 512 + Math.ceil(payloadBytes / CRC_CHUNK_BYTES) * 4 + blocks * 32;
  return (Math.ceil(header / PAGE_BYTES) + Math.ceil(payloadBytes / PAGE_BYTES)) * PAGE_BYTES;
}
