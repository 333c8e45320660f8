// The numbering of cache events: no gap, no event twice, whoever reads and whenever; a snapshot for whoever is new or late.

import { expect, test } from 'vitest';
import { EventLog, removed, stored } from '../../../src/kv/event-log.js';
import type { CacheEvent } from '../../../src/kv/types.js';

const event = (name: number): CacheEvent => ({
  t: 'removed',
  tier: 'disk',
  blockHash: Uint8Array.of(name & 255, name >> 8),
  scopeTag: new Uint8Array(0),
});
const nameOf = ({ blockHash }: CacheEvent) => (blockHash[0] as number) + 256 * (blockHash[1] as number);
const tick = () => new Promise<void>((resolve) => setImmediate(resolve));

function reader(log: EventLog, after: number) {
  const heard: [first: number, names: number[], reset: boolean][] = [];
  const subscription = log.watch(after, (first, events, reset) => heard.push([first, events.map(nameOf), reset]));
  return { heard, subscription };
}

test('a new reader gets a snapshot that ends with the newest number, then every change', async () => {
  const log = new EventLog(() => [event(90), event(91)], 1000);
  log.add(event(1));
  const { heard } = reader(log, 0);
  expect(heard).toEqual([[1000, [90, 91], false]]); // 1001 is event 1, for which the snapshot stands
  log.add(event(2));
  log.add(event(3));
  expect(heard.length).toBe(1); // never from inside
  await tick();
  expect(heard[1]).toEqual([1002, [2, 3], false]);
});

test('a reader that comes back gets what it missed, and nothing when it missed nothing', async () => {
  const log = new EventLog(() => [], 1000);
  for (const name of [1, 2, 3]) log.add(event(name));
  await tick();
  expect(reader(log, 1001).heard).toEqual([[1002, [2, 3], false]]);
  const current = reader(log, 1003);
  expect(current.heard).toEqual([]);
  log.add(event(4));
  await tick();
  expect(current.heard).toEqual([[1004, [4], false]]);
});

test('a number of another process, or of a time long gone, brings a reset', async () => {
  const log = new EventLog(() => [event(90)], 1000);
  log.add(event(1));
  await tick();
  for (const after of [5, 999, 1002, 1e12]) expect(reader(log, after).heard).toEqual([[1001, [90], true]]);
  for (let name = 0; name < 100_000; name++) log.add(event(name));
  await tick();
  expect(reader(log, 1001).heard).toEqual([[101_001, [90], true]]);
  expect(reader(log, 100_999).heard).toEqual([[101_000, [99_998 & 65_535, 99_999 & 65_535], false]]);
});

test('a closed reader hears nothing more; one that joins from inside hears each event once', async () => {
  const log = new EventLog(() => [event(90)], 0);
  const { heard, subscription } = reader(log, 0);
  const inner: [number, number[]][] = [];
  const outer = log.watch(0, (first) => {
    if (first === 1 && inner.length === 0) log.watch(0, (at, events) => inner.push([at, events.map(nameOf)]));
  });
  log.add(event(1));
  await tick();
  expect(inner).toEqual([[1, [90]]]); // the snapshot has event 1 in it
  subscription.close();
  outer.close();
  log.add(event(2));
  await tick();
  expect(heard).toEqual([
    [0, [90], false],
    [1, [1], false],
  ]);
  expect(inner[1]).toEqual([2, [2]]);
});

test('a purge of more blocks than a call takes arguments is told, and the oldest are dropped', async () => {
  const log = new EventLog(() => [], 0);
  const told: number[] = [];
  log.watch(0, (_, events) => told.push(events.length));
  for (let count = 0; count < 300_000; count++) log.add(removed('disk', 'k'.repeat(32), 's'.repeat(16)));
  await new Promise((resolve) => setImmediate(resolve));
  expect(told.at(-1)).toBe(300_000);
  log.watch(5, (_, __, reset) => expect(reset).toBe(true));
});

test('an announcement makes readers begin anew, with numbers that go on', () => {
  const log = new EventLog(() => [stored('disk', 'k'.repeat(32), { parent: '', scopeTag: 's'.repeat(16) })], 100);
  const told: [number, number, boolean][] = [];
  log.watch(0, (first, events, reset) => told.push([first, events.length, reset]));
  log.announce();
  expect(told).toEqual([
    [100, 1, false],
    [100, 1, true],
  ]);
});
