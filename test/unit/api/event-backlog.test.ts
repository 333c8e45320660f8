// What a reader of cache events gets at its own speed: everything in order while the backlog holds, a reset and a snapshot
// beyond it.

import { expect, test } from 'vitest';
import { EventBacklog } from '../../../src/api/event-backlog.js';
import type { WatchCacheEventsResponse } from '../../../src/api/gen/nandu/v1/WatchCacheEventsResponse.js';
import type { CacheEvent, PromptCache } from '../../../src/kv/types.js';

type Reader = Parameters<PromptCache['watch']>[1];

const change = (index: number): CacheEvent => ({
  t: 'removed',
  tier: 'disk',
  blockHash: Uint8Array.from([index >> 16, index >> 8, index]),
  scopeTag: new Uint8Array(0),
});
const changes = (from: number, length: number) => Array.from({ length }, (_, index) => change(from + index));

class Source {
  readers: Reader[] = [];
  asked: number[] = [];
  numClosed = 0;
  /** Given to whoever asks from 0, within the call. */
  snapshot: readonly CacheEvent[] = [];
  readonly cache = {
    watch: (afterSequence: number, onEvents: Reader) => {
      this.asked.push(afterSequence);
      this.readers.push(onEvents);
      if (afterSequence === 0 && this.snapshot.length > 0) onEvents(1, this.snapshot, false);
      return {
        close: () => {
          this.numClosed += 1;
          this.readers = this.readers.filter((reader) => reader !== onEvents);
        },
      };
    },
  } as PromptCache;
  emit(sequence: number, events: readonly CacheEvent[], reset = false): void {
    for (const reader of this.readers) reader(sequence, events, reset);
  }
}

class SlowOutlet {
  isFull = false;
  onDrain: () => void = () => {};
  readonly sent: WatchCacheEventsResponse[] = [];
  /** Messages that it takes before it is full. */
  room = Number.POSITIVE_INFINITY;
  write(message: WatchCacheEventsResponse): void {
    this.sent.push(message);
    this.room -= 1;
    this.isFull = this.room <= 0;
  }
  drain(room = Number.POSITIVE_INFINITY): void {
    this.room = room;
    this.isFull = false;
    this.onDrain();
  }
  get shape(): unknown[] {
    return this.sent.map(({ sequence, events, reset }) => (reset ? 'reset' : [sequence, events?.length]));
  }
}

function open(source: Source, out: SlowOutlet, afterSequence = 0): EventBacklog {
  return new EventBacklog(source.cache, afterSequence, out, (event) => ({
    removed: { blockHash: Buffer.from(event.blockHash) },
  }));
}

test('a fast reader gets each call at once, in messages of at most 256 events, numbered by their last', () => {
  const source = new Source();
  const out = new SlowOutlet();
  open(source, out, 9);
  source.emit(10, changes(0, 1));
  source.emit(11, changes(1, 600));
  expect(source.asked).toEqual([9]);
  expect(out.shape).toEqual([
    [10, 1],
    [266, 256],
    [522, 256],
    [610, 88],
  ]);
});

test('a slow reader gets the same, later', () => {
  const source = new Source();
  const out = new SlowOutlet();
  out.room = 1;
  open(source, out, 1);
  source.emit(2, changes(0, 300));
  source.emit(302, changes(300, 10));
  expect(out.shape).toEqual([[257, 256]]);
  out.drain(1);
  expect(out.shape).toEqual([
    [257, 256],
    [301, 44],
  ]);
  out.drain();
  expect(out.shape.at(-1)).toEqual([311, 10]);
  const hashes = out.sent.flatMap(({ events = [] }) =>
    events.map(({ removed }) => Buffer.from(removed?.blockHash as Buffer)),
  );
  expect(hashes).toEqual(changes(0, 310).map(({ blockHash }) => Buffer.from(blockHash)));
});

test('a snapshot of any size is no reason to fall behind', () => {
  const source = new Source();
  source.snapshot = changes(0, 200_000);
  const out = new SlowOutlet();
  out.room = 1;
  open(source, out);
  source.emit(200_001, changes(0, 5));
  out.drain();
  expect(out.shape).not.toContain('reset');
  expect(out.shape.at(-1)).toEqual([200_005, 5]);
});

test('whoever is cut off in the middle of a snapshot begins anew: only its last message has a number', () => {
  const source = new Source();
  source.snapshot = changes(0, 600);
  const out = new SlowOutlet();
  open(source, out);
  source.emit(601, changes(0, 300));
  expect(out.shape).toEqual([
    [0, 256],
    [0, 256],
    [600, 88],
    [856, 256],
    [900, 44],
  ]);
});

test('a reader that falls too far behind is told so once, and gets a snapshot when it reads again', () => {
  const source = new Source();
  const out = new SlowOutlet();
  out.room = 1;
  open(source, out, 1);
  source.emit(2, changes(0, 300));
  // 44 of the first wait as well.
  source.emit(302, changes(0, 65_492));
  expect([source.readers.length, source.numClosed]).toEqual([1, 0]);
  source.emit(65_794, changes(0, 1));
  expect([source.readers.length, source.numClosed]).toEqual([0, 1]);
  source.snapshot = changes(0, 3);
  out.drain();
  expect(source.asked).toEqual([1, 0]);
  expect(out.shape).toEqual([[257, 256], 'reset', [3, 3]]);
  source.emit(70_000, changes(0, 1));
  expect(out.shape.at(-1)).toEqual([70_000, 1]);
});

test('a reader that is always a little behind never falls too far behind', () => {
  const source = new Source();
  const out = new SlowOutlet();
  out.room = 1;
  open(source, out, 1);
  // Two calls of 100 wait at any time, and the backlog is never empty.
  for (let call = 0; call < 1000; call++) {
    source.emit(2 + call * 100, changes(0, 100));
    if (call >= 2) out.drain(1);
  }
  expect(source.numClosed).toBe(0);
  expect(out.shape).not.toContain('reset');
  expect(out.shape.at(-1)).toEqual([99_901, 100]);
});

test('one call of any size is no reason to fall behind for a reader that takes it at once', () => {
  const source = new Source();
  const out = new SlowOutlet();
  open(source, out, 1);
  source.emit(2, changes(0, 70_000));
  expect(out.shape).not.toContain('reset');
  expect(out.shape.at(-1)?.[0 as never]).toBe(70_001);
});

test('a reset of the cache itself takes the backlog with it', () => {
  const source = new Source();
  const out = new SlowOutlet();
  out.room = 1;
  open(source, out, 1);
  source.emit(2, changes(0, 600));
  source.emit(5000, changes(0, 2), true);
  out.drain();
  expect(out.shape).toEqual([[257, 256], 'reset', [5001, 2]]);
});

test('closed, it sends nothing and lets go of the cache', () => {
  const source = new Source();
  const out = new SlowOutlet();
  const backlog = open(source, out, 1);
  const [reader] = source.readers;
  backlog.close();
  backlog.close();
  reader?.(2, changes(0, 1), false);
  out.drain();
  expect([source.numClosed, out.shape]).toEqual([1, []]);
});
