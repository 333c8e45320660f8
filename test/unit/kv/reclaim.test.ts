// Which region is emptied and what survives it, told as stories; then a store that is written over and over, where a
// kept record must never have lost what it hangs on.

import { describe, expect, test } from 'vitest';
import { DiskIndex } from '../../../src/kv/disk-index.js';
import { maxPinnedBytes, Reclaimer, type ReclaimPlan } from '../../../src/kv/reclaim.js';
import type { HashKey, RecordInfo, StoreStatus } from '../../../src/kv/store.js';
import { FakeStore } from '../../fakes/fake-store.js';
import { chain, point, segment } from './records.js';

const REGION = 1000;
const full = { regionsFree: 1, regionsTotal: 8, regionsLimit: 8, regionBytes: REGION };

function setUp(...records: readonly RecordInfo[]) {
  const index = new DiskIndex();
  for (const record of records) index.add(record);
  const reclaimer = new Reclaimer(index);
  const regions = [...new Set(records.map(({ region }) => region))].sort((a, b) => a - b);
  for (const region of regions) reclaimer.sealed(region);
  const next = (nowMs = 0): ReclaimPlan | null => reclaimer.next(full, false, nowMs);
  /** Takes the next plan to its end, as a store would that moves what is kept to region 100. */
  const step = (status: StoreStatus = 'ok', nowMs = 0): ReclaimPlan | null => {
    const plan = next(nowMs);
    if (plan && status === 'ok') for (const id of plan.keep) index.moved(id, 100);
    reclaimer.done(status);
    index.checkIntegrity();
    return plan;
  };
  return { index, reclaimer, next, step };
}

describe('when', () => {
  test('two free regions are kept ready, those counted that the quota still allows', () => {
    const { reclaimer } = setUp(segment(1, 'a'));
    const due = (regionsFree: number, regionsTotal: number, canGrow: boolean) => {
      const plan = reclaimer.next({ ...full, regionsFree, regionsTotal }, canGrow, 0);
      reclaimer.done('io-error');
      return plan !== null;
    };
    expect(due(2, 8, true)).toBe(false);
    expect(due(0, 6, true)).toBe(false);
    expect(due(1, 7, true)).toBe(false);
    expect(due(0, 9, true)).toBe(true);
    expect(due(0, 7, true)).toBe(true);
    expect(due(0, 6, false)).toBe(true);
  });

  test('one at a time', () => {
    const { next, reclaimer } = setUp(segment(1, 'a', 0, { region: 1 }), segment(2, 'b', 0, { region: 2 }));
    expect(next()?.region).toBe(1);
    expect(next()).toBeNull();
    reclaimer.done('ok');
    reclaimer.done('ok');
    expect(next()?.region).toBe(2);
  });
});

describe('which', () => {
  test('the oldest that is sealed and not being read', () => {
    const { step, reclaimer } = setUp(...[1, 2, 3].map((n) => segment(n, 'abc'.slice(n - 1, n), 0, { region: n })));
    reclaimer.sealed(1); // filled again
    reclaimer.readBegins(2);
    reclaimer.readBegins(2);
    reclaimer.readEnds(2);
    expect(step()?.region).toBe(3);
    reclaimer.readEnds(2);
    expect(step()?.region).toBe(2);
    expect(step()?.region).toBe(1);
    expect(step()).toBeNull();
    expect(reclaimer.sealedRegions).toBe(0);
  });

  test('after recovery by the ids that lie there, an empty one first', () => {
    const index = new DiskIndex();
    for (const [id, region] of [
      [5, 1],
      [2, 3],
      [9, 3],
      [7, 2],
      [1, 4],
    ] as const)
      index.add(segment(id, String.fromCharCode(97 + id), 0, { region }));
    const reclaimer = new Reclaimer(index);
    for (const region of [1, 2, 3, 4, 6]) reclaimer.sealed(region);
    reclaimer.recovered();
    const order = [];
    for (let plan = reclaimer.next(full, false, 0); plan; plan = reclaimer.next(full, false, 0)) {
      order.push(plan.region);
      reclaimer.done('ok');
    }
    expect(order).toEqual([6, 4, 1, 2, 3]);
  });

  test('one that fails goes behind the others and keeps its marks', () => {
    const { index, step } = setUp(segment(1, 'a', 0, { region: 1 }), segment(2, 'b', 0, { region: 2 }));
    index.hit(chain('a'), 1, 5);
    expect(step('io-error')).toMatchObject({ region: 1, keep: [1] });
    expect(step()?.region).toBe(2);
    expect(step()).toMatchObject({ region: 1, keep: [1] });
  });
});

describe('what survives', () => {
  test('everything that was hit, parents first and chains together; the mark is used up', () => {
    const { index, step, reclaimer } = setUp(
      segment(1, 'ab'),
      segment(2, 'xy'),
      point(3, 'xyz'),
      segment(4, 'xyz', 2),
      segment(5, 'abc', 2),
      point(6, 'ab'),
      segment(7, 'abq', 2),
    );
    index.hit(chain('abc'), 3, 5);
    index.hit(chain('xyz'), 3, 5);
    const plan = step();
    expect(plan?.keep).toEqual([1, 5, 2, 4, 3]);
    expect(plan?.dropped.map(({ id }) => id).sort()).toEqual([6, 7]);
    expect(index.size).toBe(5);
    reclaimer.sealed(100);
    expect(step()?.keep).toEqual([]);
    expect(index.size).toBe(0);
  });

  test('what hangs on a dropped record leaves the index wherever it lies', () => {
    const { index, step } = setUp(
      segment(1, 'ab', 0, { region: 1 }),
      segment(2, 'abc', 2, { region: 2 }),
      point(3, 'abc', { region: 3 }),
    );
    expect(step()?.dropped.map(({ id }) => id)).toEqual([1, 2, 3]);
    expect(index.size).toBe(0);
  });

  test('not a parent that nobody used since it was written again, nor what still has an older mark behind it', () => {
    const { index, step, reclaimer } = setUp(segment(1, 'ab', 0, { region: 1 }), segment(2, 'abc', 2, { region: 2 }));
    index.hit(chain('abc'), 3, 5);
    reclaimer.readBegins(2);
    expect(step()).toMatchObject({ region: 1, keep: [1], dropped: [] });
    reclaimer.sealed(100);
    expect(step()?.dropped.map(({ id }) => id)).toEqual([1, 2]);
  });

  test('what is pinned, hit or not, until its time', () => {
    const { index, step, reclaimer } = setUp(segment(1, 'ab'), point(2, 'ab'), segment(3, 'cd'));
    index.pin(chain('ab')[1] as HashKey, 100, 0, maxPinnedBytes(full));
    expect(step('ok', 99)?.keep).toEqual([1, 2]);
    reclaimer.sealed(100);
    expect(step('ok', 100)?.keep).toEqual([]);
  });

  test('pins may hold half of the regions', () => {
    expect(maxPinnedBytes({ regionsLimit: 9, regionBytes: 10 })).toBe(40);
  });
});

describe('a disk too small for what is in use', () => {
  const letters = 'abcdefghijkl';
  const region = (n: number) => segment(n + 1, letters[n] as string, 0, { region: n, storedBytes: 950, createdMs: n });

  test('after eight regions that free next to nothing, the one used longest ago is dropped whole', () => {
    const { index, step, reclaimer } = setUp(...[...letters].map((_, n) => region(n)));
    [...letters].forEach((letter, n) => {
      index.hit(chain(letter), 1, n === 10 ? 1 : 100 - n);
    });
    for (let n = 0; n < 8; n++) {
      expect(step()).toMatchObject({ region: n, keep: [n + 1] });
    }
    expect(reclaimer.counts()).toEqual({ regions: 8, keptBytes: 8 * 950, forcedRegions: 0 });
    expect(step()).toMatchObject({ region: 10, keep: [] });
    expect(index.get(11)).toBeNull();
    expect(reclaimer.counts().forcedRegions).toBe(1);
    // One more that frees nothing, and the next is dropped at once.
    expect(step()).toMatchObject({ region: 8, keep: [9] });
    expect(step()).toMatchObject({ region: 11, keep: [] });
  });

  test('a region that frees a tenth begins the count anew', () => {
    const { index, step } = setUp(
      ...[...letters].map((_, n) => (n === 4 ? segment(5, 'e', 0, { region: 4 }) : region(n))),
    );
    for (const letter of letters) index.hit(chain(letter), 1, 1);
    for (let n = 0; n < 12; n++) expect(step()).toMatchObject({ region: n, keep: [n + 1] });
  });

  test('pinned records survive even that, and their region is the last choice', () => {
    const { index, step } = setUp(...[...letters].map((_, n) => region(n)));
    for (const letter of letters) index.hit(chain(letter), 1, 50);
    index.pin(chain('k')[0] as HashKey, 1000, 0, 10_000);
    for (let n = 0; n < 8; n++) step();
    expect(step()?.region).not.toBe(10);
    expect(index.get(11)).not.toBeNull();
  });

  test('what is kept does not fit: the next region is dropped', () => {
    const { index, step } = setUp(region(0), region(1));
    index.hit(chain('a'), 1, 9);
    index.hit(chain('b'), 1, 5);
    expect(step('no-space')).toMatchObject({ region: 0, keep: [1] });
    expect(step()).toMatchObject({ region: 1, keep: [] });
    expect(index.get(1)).not.toBeNull();
  });
});

test('a store written ten times over never runs out of room, and the index is what the store holds', () => {
  const store = new FakeStore({ regionBytes: 40_000, regions: 12, delayMs: null, seed: 3 });
  const index = new DiskIndex();
  const reclaimer = new Reclaimer(index);
  let refused = 0;
  const turn = () => {
    store.settle();
    for (const event of store.drain()) {
      if (event.t === 'written' && event.record) index.add(event.record);
      else if (event.t === 'written') refused++;
      else if (event.t === 'moved') index.moved(event.id, event.region);
      else if (event.t === 'sealed') reclaimer.sealed(event.region);
      else if (event.t === 'reclaimed') reclaimer.done(event.status);
    }
    const plan = reclaimer.next(store.stats(), true, 0);
    if (plan) store.reclaim(0, plan.region, plan.keep);
    return plan !== null;
  };
  const alphabet = 'abcdefghijklmnopqrstuvwxyz';
  let random = 12345;
  const pick = (below: number) => {
    random = (Math.imul(random, 1103515245) + 12345) >>> 0;
    return (random >>> 16) % below;
  };
  for (let n = 0; n < 600; n++) {
    // Half of all prompts begin with one of three; all have an end of their own.
    const front = n % 2 === 0 ? 'abc'.charAt(pick(3)).repeat(3) : '';
    const prompt = front + Array.from({ length: 4 }, () => alphabet.charAt(pick(26))).join('');
    const hashes = chain(prompt);
    const { blocks } = index.find(hashes);
    index.hit(hashes, blocks, n);
    if (blocks < prompt.length) {
      const record = segment(0, prompt, blocks);
      store.append(n, record, { t: 'slots', slots: record.blocks.map((_, i) => i) });
      store.append(n, point(0, prompt), { t: 'point', point: 1 });
    }
    while (turn());
    if (n % 50 === 0) index.checkIntegrity();
  }
  const stats = store.stats();
  expect(stats.bytesAppended).toBeGreaterThan(10 * 40_000 * 12);
  expect(refused).toBe(0);
  expect(reclaimer.counts().regions).toBeGreaterThan(100);
  index.dropOrphans();
  index.checkIntegrity();
  // All that the index names is there, in that region; the store may hold more, on which nothing leads any more.
  const there = new Map(store.records().map((record) => [record.id, record.region]));
  for (const { id, region } of index.records()) expect(there.get(id)).toBe(region);
  expect(index.size).toBeGreaterThan(20);
  for (const front of ['aaa', 'bbb', 'ccc']) expect(index.find(chain(front)).blocks).toBe(3);
});
