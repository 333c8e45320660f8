// A KvStore over a list of records in memory: recovers them, verifies them as it is told, destroys them for good.

import type { KvStore, RecordInfo, StoreEvent, StoreStats, StoreStatus } from '../../src/kv/store.js';

const never = (): never => {
  throw new Error('nobody should write here');
};

export class RecordedStore implements KvStore {
  onWake: () => void = () => {};
  readonly secret = new Uint8Array(32);
  readonly directory = '/fake/kv';
  readonly backend = 'pool';
  readonly remark = 'io_uring is not permitted here';
  readonly destroyed: number[] = [];
  /** By id; 'ok' where nothing is said. */
  readonly verdicts = new Map<number, StoreStatus>();
  destroyStatus: StoreStatus = 'ok';
  isClosed = false;
  /** verify() calls that have not been answered, at most. */
  numVerifyingMax = 0;
  #numVerifying = 0;
  #events: StoreEvent[];

  constructor(
    readonly records: readonly RecordInfo[],
    private readonly damaged = 0,
  ) {
    // Half of it before anybody listens, half later.
    const half = records.length >> 1;
    this.#events = records.slice(0, half).map((record) => ({ t: 'recovered', record }));
    setImmediate(() =>
      this.#push(...records.slice(half).map((record): StoreEvent => ({ t: 'recovered', record })), {
        t: 'recovery-done',
        damaged: this.damaged,
      }),
    );
  }

  drain(): StoreEvent[] {
    return this.#events.splice(0);
  }

  verify(ticket: number, { id }: Pick<RecordInfo, 'id'>): void {
    this.numVerifyingMax = Math.max(this.numVerifyingMax, ++this.#numVerifying);
    setImmediate(() => {
      this.#numVerifying -= 1;
      this.#push({ t: 'read', ticket, status: this.verdicts.get(id) ?? 'ok', bytes: 1, point: null });
    });
  }

  destroy(ticket: number, ids: readonly number[]): void {
    if (this.destroyStatus === 'ok') this.destroyed.push(...ids);
    setImmediate(() => this.#push({ t: 'destroyed', ticket, status: this.destroyStatus }));
  }

  stats(): StoreStats {
    const usedBytes = this.records.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    return {
      ...{ regionsTotal: 8, regionsFree: 5, regionsOpen: 1, regionsSealed: 2, regionsLimit: 8, regionBytes: 2 ** 25 },
      ...{ usedBytes, liveBytes: usedBytes, records: this.records.length, queuedBytes: 0, bytesAppended: 0 },
      ...{ bytesReinserted: 0, bytesMetadata: 0, bytesRead: 0, quarantined: 0, readP99Us: 0, ioQueued: 0 },
      ...{ recovering: false, faults: 0 },
    };
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }

  append = never;
  readBlocks = never;
  readPoint = never;
  cancel = never;
  reclaim = never;
  flush = never;

  #push(...events: StoreEvent[]): void {
    this.#events.push(...events);
    this.onWake();
  }
}
