// Carries cache events to one reader of WatchCacheEvents. A slow reader costs at most a bounded backlog: beyond it, it is
// told to forget everything and gets a snapshot when it has caught up.

import type { CacheEvent, CacheSubscription, PromptCache } from '../kv/types.js';
import type { CacheEvent as CacheEventMessage } from './gen/nandu/v1/CacheEvent.js';
import type { WatchCacheEventsResponse } from './gen/nandu/v1/WatchCacheEventsResponse.js';
import type { Outlet } from './rpc.js';

/** Of one message: a stored block is about 600 bytes, so this is 150 KB. */
const EVENTS_A_MESSAGE = 256;
/** Changes that may wait for a slow reader: 8 million tokens, some 40 MB. A snapshot does not count. */
const CHANGES_WAITING_MAX = 65_536;

type EventOutlet = Pick<Outlet<WatchCacheEventsResponse>, 'isFull' | 'onDrain' | 'write'>;

interface Batch {
  /** Of its first event. */
  readonly sequence: number;
  readonly events: readonly CacheEvent[];
  readonly isSnapshot: boolean;
  /** Events of it that have left. */
  numSent: number;
}

export class EventBacklog {
  #batches: Batch[] = [];
  /** Not sent yet; those of a snapshot are not counted. */
  #changesWaiting = 0;
  #subscription: CacheSubscription | null = null;
  /** The reader has missed changes and does not know yet. */
  #hasFallenBehind = false;
  #isClosed = false;

  constructor(
    private readonly cache: PromptCache,
    afterSequence: number,
    private readonly out: EventOutlet,
    private readonly toMessage: (event: CacheEvent) => CacheEventMessage,
  ) {
    out.onDrain = () => this.#onDrain();
    this.#subscribe(afterSequence);
  }

  /** Safe twice. */
  close(): void {
    this.#isClosed = true;
    this.#drop();
    this.out.onDrain = () => {};
  }

  #subscribe(afterSequence: number): void {
    // Who asks from the beginning is told all there is within this call.
    let isFirst = afterSequence === 0;
    const subscription = this.cache.watch(afterSequence, (firstSequence, events, reset) =>
      this.#onEvents(firstSequence, events, reset, reset || isFirst),
    );
    isFirst = false;
    // The first events may have come within that call, and been too many.
    if (this.#hasFallenBehind) subscription.close();
    else this.#subscription = subscription;
  }

  #onEvents(sequence: number, events: readonly CacheEvent[], reset: boolean, isSnapshot: boolean): void {
    if (this.#isClosed || this.#hasFallenBehind) return;
    if (reset) {
      this.#batches = [];
      this.#changesWaiting = 0;
      this.out.write({ reset: true });
    }
    if (events.length > 0) this.#batches.push({ sequence, events, isSnapshot, numSent: 0 });
    if (!isSnapshot) this.#changesWaiting += events.length;
    this.#send();
    // What still waits does so behind a full outlet, so a drain will come to begin anew.
    if (this.#changesWaiting <= CHANGES_WAITING_MAX) return;
    this.#drop();
    this.#hasFallenBehind = true;
  }

  #onDrain(): void {
    if (this.#hasFallenBehind) {
      this.#hasFallenBehind = false;
      this.out.write({ reset: true });
      this.#subscribe(0);
    }
    this.#send();
  }

  #send(): void {
    for (;;) {
      const batch = this.#batches[0];
      if (!batch || this.out.isFull) return;
      const chunk = batch.events.slice(batch.numSent, batch.numSent + EVENTS_A_MESSAGE);
      batch.numSent += chunk.length;
      if (!batch.isSnapshot) this.#changesWaiting -= chunk.length;
      if (batch.numSent === batch.events.length) this.#batches.shift();
      // Half a snapshot is nothing to go on from.
      const isPartial = batch.isSnapshot && batch.numSent < batch.events.length;
      const sequence = isPartial ? 0 : batch.sequence + batch.numSent - 1;
      this.out.write({ sequence, events: chunk.map(this.toMessage) });
    }
  }

  #drop(): void {
    this.#subscription?.close();
    this.#subscription = null;
    this.#batches = [];
    this.#changesWaiting = 0;
  }
}
