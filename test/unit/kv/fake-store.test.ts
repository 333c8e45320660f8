// The store in memory keeps the promises of src/kv/store.ts that the tests of the cache lean on.

import { expect, test } from 'vitest';
import type { HashKey, StoreEvent } from '../../../src/kv/store.js';
import { FakeStore, type FakeStoreOptions } from '../../fakes/fake-store.js';
import { chain, point, segment } from './records.js';

const open = (options: FakeStoreOptions = {}) =>
  new FakeStore({ delayMs: null, regionBytes: 20_000, regions: 8, ...options });
const write = (store: FakeStore, prompt: string) =>
  store.append(1, segment(0, prompt), { t: 'slots', slots: [...prompt].map((_, i) => i) });
const events = (store: FakeStore): StoreEvent[] => {
  store.settle();
  return store.drain().filter(({ t }) => t !== 'gathered');
};
const last = (prompt: string) => chain(prompt).at(-1) as HashKey;

test('events wait for drain, and onWake is never called from inside a command', async () => {
  const store = open({ delayMs: [0, 2] });
  let wakes = 0;
  const woken = new Promise<void>((resolve) => {
    store.onWake = () => {
      wakes++;
      resolve();
    };
  });
  write(store, 'ab');
  expect([wakes, store.drain()]).toEqual([0, []]);
  await woken;
  expect(store.drain()).toMatchObject([
    { t: 'gathered', ticket: 1 },
    { t: 'written', status: 'ok', record: { id: 1 } },
    { t: 'durable', upTo: 1 },
  ]);
  await store.close();
});

test('regions fill, are sealed, reclaimed and used again; what is not kept is gone', () => {
  const store = open();
  for (const prompt of ['abcd', 'efgh', 'ijkl']) write(store, prompt);
  const seen = events(store);
  expect(seen.filter(({ t }) => t === 'sealed')).toEqual([{ t: 'sealed', region: 0 }]);
  store.reclaim(7, 0, [2]);
  expect(events(store)).toEqual([
    { t: 'moved', id: 2, region: 2 },
    { t: 'reclaimed', ticket: 7, status: 'ok', region: 0 },
  ]);
  store.readBlocks(1, { id: 1, key: last('abcd'), blocks: 4 }, 0, [0]);
  store.readBlocks(2, { id: 2, key: last('efgh'), blocks: 4 }, 1, [0, 1]);
  store.readBlocks(3, { id: 3, key: last('efgh'), blocks: 4 }, 0, [0]);
  expect(events(store)).toMatchObject([
    { ticket: 1, status: 'not-found' },
    { ticket: 2, status: 'ok', bytes: 2000 },
    { ticket: 3, status: 'corrupt' },
  ]);
  expect(store.stats()).toMatchObject({
    records: 1,
    regionsFree: 6,
    regionsOpen: 2,
    regionsSealed: 0,
    liveBytes: 8096,
  });
});

test('no room: the write says so; kept records that fit nowhere leave everything as it was', () => {
  const store = open({ regions: 2 });
  for (const prompt of ['abcd', 'efgh', 'ijkl', 'mnop', 'qrst']) write(store, prompt);
  expect(events(store).at(-1)).toMatchObject({ t: 'written', status: 'no-space', record: null });
  store.reclaim(7, 0, [1, 2]);
  expect(events(store)).toEqual([{ t: 'reclaimed', ticket: 7, status: 'no-space', region: 0 }]);
  expect(store.stats().records).toBe(4);
});

test('failures come when asked for; a hanging disk answers nothing but cancel', () => {
  const store = open();
  store.failNext('write-error');
  store.failNext('lost');
  write(store, 'ab');
  write(store, 'cd');
  expect(events(store).map((event) => [event.t, 'status' in event ? event.status : null])).toEqual([
    ['written', 'io-error'],
    ['written', 'ok'],
    ['lost', null],
    ['durable', null],
  ]);
  store.append(2, point(0, 'ab'), { t: 'point', point: 3 });
  const written = events(store)[0];
  const id = written?.t === 'written' && written.record ? written.record.id : -1;
  store.hangs = true;
  store.readPoint(5, { id, key: last('ab'), position: 256 });
  store.readPoint(6, { id, key: last('ab'), position: 256 });
  expect(events(store)).toEqual([]);
  store.cancel(5);
  expect(events(store)).toMatchObject([{ t: 'read', ticket: 5, status: 'cancelled' }]);
  store.hangs = false;
  expect(events(store)).toMatchObject([{ t: 'read', ticket: 6, status: 'ok', point: 1 }]);
  store.reportHealth('read-only', 'remounted');
  write(store, 'ef');
  expect(events(store)).toMatchObject([{ t: 'health' }, { t: 'written', status: 'read-only' }]);
});

test('opened again: what was durable is recovered, in some order, its regions sealed; destroyed is destroyed', () => {
  const store = open({ commit: 'flush' });
  write(store, 'ab');
  write(store, 'cd');
  events(store);
  store.destroy(1, [1]);
  store.flush();
  write(store, 'ef');
  expect(events(store)).toMatchObject([{ t: 'destroyed' }, { t: 'durable', upTo: 2 }, { t: 'written' }]);
  const recovered = (how: 'close' | 'crash') => {
    const found = events(store.reopened(how));
    expect(found.at(-1)).toEqual({ t: 'recovery-done', damaged: 0 });
    expect(found.filter(({ t }) => t === 'sealed')).toHaveLength(1);
    return found.flatMap((event) => (event.t === 'recovered' ? event.record.id : [])).sort();
  };
  expect(recovered('crash')).toEqual([2]);
  expect(recovered('close')).toEqual([2, 3]);
});
