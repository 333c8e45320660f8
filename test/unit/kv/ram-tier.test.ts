// Stories of what lies in RAM, with exact slots and handles; integrity is checked after each verb. What native holds there is
// not seen here: test/fakes/fake-kv-memory.ts does that for cache.test.ts.

import { expect, test } from 'vitest';
import { RamTier, type RamTierOptions } from '../../../src/kv/ram-tier.js';

const ORIGIN = { parent: '', scopeTag: 's' };

/** Four slots of 10 bytes unless it is said otherwise; `released` and `moved` tell what it did. */
function tier(options: Partial<RamTierOptions> = {}) {
  const released: number[] = [];
  const moved: string[] = [];
  let nowMs = 0;
  const inner = new RamTier({
    numSlots: 4,
    blockBytes: 10,
    keptBytesMax: 1000,
    releasePoint: (point) => released.push(point),
    now: () => nowMs,
    onMoved: (key, _, from, to) => moved.push(`${key} ${from} ${to}`),
    ...options,
  });
  const checked = new Proxy(inner, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (typeof value !== 'function') return value;
      return (...args: unknown[]) => {
        const result = value.apply(target, args);
        target.checkIntegrity();
        return result;
      };
    },
  });
  const named = (key: string): number => {
    const slot = checked.take() as number;
    checked.name(slot, key, ORIGIN);
    return slot;
  };
  return { ram: checked, released, moved, named, setNow: (ms: number) => (nowMs = ms) };
}

test('slots are taken in order; nameless ones are free again when they are released', () => {
  const { ram } = tier();
  expect([ram.take(), ram.take(), ram.take(), ram.take(), ram.take()]).toEqual([0, 1, 2, 3, null]);
  expect(ram.available).toBe(0);
  ram.release(2);
  ram.release(0);
  expect(ram.available).toBe(2);
  expect([ram.take(), ram.take(), ram.take()]).toEqual([0, 2, null]);
});

test('a named block stays findable until its slot is needed, the one released first goes first', () => {
  const { ram, named, moved } = tier();
  const [a, b, c] = ['a', 'b', 'c'].map(named) as [number, number, number];
  for (const slot of [b, a, c]) ram.release(slot);
  expect(ram.stats).toMatchObject({ heldBlocks: 0, keptBlocks: 3, keptBytes: 30, namedBlocks: 3, evictions: 0 });
  expect(ram.available).toBe(4);
  expect(ram.take()).toBe(3); // free goes before kept
  expect(ram.take()).toBe(b);
  expect([ram.find('a'), ram.find('b'), ram.find('c')]).toEqual([a, undefined, c]);
  expect(moved.slice(-4)).toEqual(['b live memory', 'a live memory', 'c live memory', 'b memory null']);
  ram.hold(a);
  expect(moved.at(-1)).toBe('a memory live');
  expect(ram.take()).toBe(c);
  expect(ram.take()).toBeNull();
});

test('a block is kept once: a second slot with the same tokens stays nameless', () => {
  const { ram, named } = tier();
  const first = named('a');
  const second = ram.take() as number;
  expect(ram.name(second, 'a', ORIGIN)).toBe(false);
  expect(ram.name(first, 'b', ORIGIN)).toBe(false); // it has a name
  ram.release(second);
  expect(ram.stats).toMatchObject({ heldBlocks: 1, keptBlocks: 0 });
  expect(ram.find('a')).toBe(first);
});

test('touch puts what was of use last, points before the blocks of the same key', () => {
  const { ram, named } = tier();
  const [a, b] = ['a', 'b'].map(named) as [number, number];
  ram.addPoint(7, 5, 'a', 's');
  ram.releasePoint(7);
  ram.release(a);
  ram.release(b);
  ram.touch(['a', 'nobody']);
  expect(ram.take()).toBe(2);
  expect(ram.take()).toBe(3);
  expect(ram.take()).toBe(b);
  expect(ram.pointAt('a')).toBe(7);
  expect(ram.take()).toBe(a);
  expect(ram.pointAt('a')).toBeUndefined(); // it was older by a touch
});

test('nothing stays under a budget of nothing', () => {
  const { ram, named, released } = tier({ keptBytesMax: 0 });
  const a = named('a');
  ram.addPoint(1, 5, 'a', 's');
  ram.releasePoint(1);
  expect(released).toEqual([1]);
  ram.release(a);
  expect(ram.stats).toMatchObject({ keptBytes: 0, namedBlocks: 0, pointBytes: 0, evictions: 2 });
});

test('the budget counts blocks and points together, the oldest goes', () => {
  const { ram, named, released } = tier({ keptBytesMax: 25 });
  const slots = ['a', 'b', 'c'].map(named);
  ram.release(slots[0] as number);
  ram.addPoint(1, 5, 'a', 's');
  ram.releasePoint(1);
  ram.release(slots[1] as number);
  expect(ram.stats).toMatchObject({ keptBytes: 25, keptBlocks: 2, evictions: 0 });
  ram.release(slots[2] as number);
  expect(ram.find('a')).toBeUndefined();
  expect(ram.pointAt('a')).toBe(1);
  expect(released).toEqual([]);
  expect(ram.stats).toMatchObject({ keptBytes: 25, keptBlocks: 2, evictions: 1 });
});

test('a point lives as long as somebody holds it; of two at one place the first is found', () => {
  const { ram, released } = tier();
  ram.addPoint(1, 5, 'a', 's');
  ram.addPoint(2, 5, 'a', 's');
  expect(ram.pointAt('a')).toBe(1);
  ram.holdPoint(2);
  ram.releasePoint(2);
  expect(released).toEqual([]);
  ram.releasePoint(2);
  expect(released).toEqual([2]);
  ram.releasePoint(1);
  expect(ram.pointAt('a')).toBe(1); // kept
  ram.addPoint(3, 5, null, 's');
  ram.releasePoint(3);
  expect(released).toEqual([2, 3]);
});

test('exact ends at one boundary: different ones side by side, equal ones once, eight at most', () => {
  const { ram, released } = tier();
  for (let index = 1; index <= 8; index++) ram.addPoint(index, 5, 'a', 's', Uint32Array.of(1, index));
  ram.addPoint(9, 5, 'a', 's', Uint32Array.of(1, 3));
  ram.addPoint(10, 5, 'a', 's', Uint32Array.of(99));
  expect(ram.tailsAt('a').map(({ handle }) => handle)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  for (let index = 1; index <= 10; index++) ram.releasePoint(index);
  expect(released).toEqual([9, 10]);
  ram.forget([], [4]);
  expect(ram.tailsAt('a').map(({ handle }) => handle)).toEqual([1, 2, 3, 5, 6, 7, 8]);
  expect(ram.tailsAt('b')).toEqual([]);
});

test('what is forgotten is not found; held slots and points go with their last holder', () => {
  const { ram, named, released, moved, setNow } = tier();
  setNow(5);
  const [a, b] = ['a', 'b'].map(named) as [number, number];
  ram.addPoint(1, 5, 'a', 's');
  ram.addPoint(2, 5, 'b', 's');
  ram.release(b);
  ram.releasePoint(2);
  expect([...ram.blocks()].map(({ key, tier: where, usedMs }) => [key, where, usedMs])).toEqual([
    ['a', 'live', 0],
    ['b', 'memory', 5],
  ]);
  expect([...ram.points()].map(({ handle, isHeld, usedMs }) => [handle, isHeld, usedMs])).toEqual([
    [1, true, 0],
    [2, false, 5],
  ]);
  ram.forget(['a', 'b'], [1, 2]);
  expect([ram.find('a'), ram.find('b'), ram.pointAt('a')]).toEqual([undefined, undefined, undefined]);
  expect(released).toEqual([2]);
  expect(moved.slice(-2)).toEqual(['a live null', 'b memory null']);
  ram.releasePoint(1);
  ram.release(a);
  expect(released).toEqual([2, 1]);
  expect(ram.stats).toMatchObject({ heldBlocks: 0, keptBlocks: 0, keptBytes: 0, pointBytes: 0 });
});

test('giving back what is not held is a bug, named', () => {
  const { ram } = tier();
  const slot = ram.take() as number;
  ram.release(slot);
  expect(() => ram.release(slot)).toThrow(`slot ${slot} is held by nobody`);
  expect(() => ram.hold(99)).toThrow('there is no slot 99');
  expect(() => ram.releasePoint(1)).toThrow('there is no point 1');
  ram.addPoint(1, 5, 'a', 's');
  ram.releasePoint(1);
  expect(() => ram.releasePoint(1)).toThrow('point 1 is held by nobody');
});
