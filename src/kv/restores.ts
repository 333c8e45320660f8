// Reads that put a prefix back into RAM: several records for one request, all of them or none. Each ends once; what is given up
// reads into no slot any more when its end is told.

import { BLOCK_TOKENS } from './block.js';
import type { DiskIndex, IndexedRecord } from './disk-index.js';
import type { DiskHealth } from './health.js';
import type { PointHandle } from './ram-tier.js';
import type { Reclaimer } from './reclaim.js';
import type { Run } from './start.js';
import type { KvStore, StoreEvent } from './store.js';

export interface RestoreOutcome {
  readonly ok: boolean;
  readonly bytes: number;
  /** Held once, the receiver's to release. */
  readonly point: PointHandle | null;
  /** It failed because a record was bad, and that one is gone: what is left may still do. */
  readonly mayTryAgain: boolean;
}

interface Restore {
  readonly tickets: Set<number>;
  readonly timer: NodeJS.Timeout;
  readonly done: (outcome: RestoreOutcome) => void;
  bytes: number;
  point: PointHandle | null;
  failed: boolean;
  mayTryAgain: boolean;
}

interface Read {
  readonly id: number;
  /** Where it was when the read began; a reclaim may move it meanwhile. */
  readonly region: number;
  readonly restore: Restore;
}

export interface RestoresOptions {
  readonly store: KvStore;
  readonly index: DiskIndex;
  readonly reclaimer: Reclaimer;
  readonly health: DiskHealth;
  readonly now: () => number;
  readonly nextTicket: () => number;
  /** The record is of no use: it leaves the index. */
  readonly onBad: (id: number, why: 'corrupt' | 'evicted') => void;
}

export class Restores {
  readonly #options: RestoresOptions;
  readonly #reads = new Map<number, Read>();
  #isClosed = false;

  constructor(options: RestoresOptions) {
    this.#options = options;
  }

  /** Reads runs into slots and a point into RAM. `done` is called once, never from inside. @returns what gives it up. */
  begin(
    parts: readonly { readonly run: Run; readonly slots: readonly number[] }[],
    point: IndexedRecord | null,
    deadlineMs: number,
    done: (outcome: RestoreOutcome) => void,
  ): () => void {
    const { store, index, health, now } = this.#options;
    const onDeadline = (): void => {
      health.failed('too-slow', '', now());
      this.#giveUp(restore);
    };
    health.mayUse(now());
    const restore: Restore = {
      tickets: new Set(),
      timer: setTimeout(onDeadline, deadlineMs),
      done,
      bytes: 0,
      point: null,
      failed: false,
      mayTryAgain: false,
    };
    for (const { run, slots } of parts) {
      const segment = index.get(run.id) as IndexedRecord;
      const blocks = segment.toBlock - segment.fromBlock;
      const ticket = this.#begin(restore, segment);
      try {
        store.readBlocks(ticket, { id: run.id, key: run.key, blocks }, run.skip, slots, true);
      } catch {
        // No memory for the slots: the engine will say so of this one request.
        queueMicrotask(() => this.ended({ t: 'read', ticket, status: 'cancelled', bytes: 0, point: null }));
      }
    }
    if (point) {
      const position = point.toBlock * BLOCK_TOKENS;
      store.readPoint(this.#begin(restore, point), { id: point.id, key: point.key, position }, true);
    }
    return () => this.#giveUp(restore);
  }

  ended(event: Extract<StoreEvent, { t: 'read' }>): void {
    const read = this.#reads.get(event.ticket);
    if (!read) return;
    const { health, reclaimer, now, onBad } = this.#options;
    const { id, region, restore } = read;
    this.#reads.delete(event.ticket);
    reclaimer.readEnds(region);
    restore.tickets.delete(event.ticket);
    restore.bytes += event.bytes;
    if (event.point !== null) restore.point = event.point;
    switch (event.status) {
      case 'ok':
        health.succeeded();
        break;
      case 'corrupt':
      case 'not-found':
        onBad(id, event.status === 'corrupt' ? 'corrupt' : 'evicted');
        restore.mayTryAgain = true;
        break;
      case 'cancelled':
        break;
      default:
        health.failed('read-error', '', now());
    }
    if (event.status !== 'ok' && !restore.failed) this.#giveUp(restore);
    if (restore.tickets.size > 0) return;
    clearTimeout(restore.timer);
    const { bytes, point, failed, mayTryAgain } = restore;
    restore.done({ ok: !failed, bytes, point, mayTryAgain });
  }

  /** The store is being closed: it ends what is under way by itself. */
  close(): void {
    this.#isClosed = true;
    for (const { restore } of this.#reads.values()) clearTimeout(restore.timer);
  }

  #begin(restore: Restore, { id, region }: IndexedRecord): number {
    const ticket = this.#options.nextTicket();
    restore.tickets.add(ticket);
    this.#reads.set(ticket, { id, region, restore });
    this.#options.reclaimer.readBegins(region);
    return ticket;
  }

  #giveUp(restore: Restore): void {
    restore.failed = true;
    if (this.#isClosed) return;
    for (const ticket of restore.tickets) this.#options.store.cancel(ticket);
  }
}
