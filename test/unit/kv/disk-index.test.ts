// What the disk index finds, forgets and keeps, told as stories, and then against a model that recomputes everything
// from the list of records at each question.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { DiskIndex } from '../../../src/kv/disk-index.js';
import type { HashKey, RecordInfo } from '../../../src/kv/store.js';
import { chain, IDENTITY, point, root, SCOPE, segment } from './records.js';

function indexOf(...records: readonly RecordInfo[]): DiskIndex {
  const index = new DiskIndex();
  for (const record of records) expect(index.add(record)).toBe(true);
  index.dropOrphans();
  index.checkIntegrity();
  return index;
}
const ids = (records: readonly { readonly id: number }[]) => records.map(({ id }) => id).sort((a, b) => a - b);
const last = (prompt: string): HashKey => chain(prompt).at(-1) as HashKey;
const pieces = (index: DiskIndex, prompt: string) =>
  index.find(chain(prompt)).pieces.map(({ id, skip, blocks }) => [id, skip, blocks]);

describe('find', () => {
  test('nothing in an empty index, and nothing of a stranger', () => {
    const index = indexOf(segment(1, 'abc'));
    expect(new DiskIndex().find(chain('abc'))).toEqual({ blocks: 0, pieces: [] });
    expect(index.find(chain('xbc')).blocks).toBe(0);
    expect(index.find([]).blocks).toBe(0);
  });

  test('a chain of segments, the last as far as the prompt goes', () => {
    const index = indexOf(segment(1, 'abcd'), segment(2, 'abcdef', 4));
    expect(pieces(index, 'abcdef')).toEqual([
      [1, 0, 4],
      [2, 0, 2],
    ]);
    expect(pieces(index, 'abcdexyz')).toEqual([
      [1, 0, 4],
      [2, 0, 1],
    ]);
    expect(index.find(chain('abcdef'), 3)).toMatchObject({ blocks: 3, pieces: [{ id: 1, skip: 0, blocks: 3 }] });
  });

  test('a branch out of the middle of a segment, of which nothing is written again', () => {
    const index = indexOf(segment(1, 'abcdefgh'), segment(2, 'abcXYZ', 3), segment(3, 'abcXYQ', 5));
    expect(pieces(index, 'abcXYZ')).toEqual([
      [1, 0, 3],
      [2, 0, 3],
    ]);
    expect(pieces(index, 'abcXYQR')).toEqual([
      [1, 0, 3],
      [2, 0, 2],
      [3, 0, 1],
    ]);
    expect(pieces(index, 'abcdefgh')).toEqual([[1, 0, 8]]);
  });

  test('through copies that overlap, the longest way, with blocks skipped', () => {
    const index = indexOf(segment(1, 'ab'), segment(2, 'abcd'), segment(3, 'abcdef', 3));
    expect(pieces(index, 'abcdef')).toEqual([
      [2, 0, 4],
      [3, 1, 2],
    ]);
    index.remove(2, 'corrupt');
    index.checkIntegrity();
    expect(pieces(index, 'abcdef')).toEqual([[1, 0, 2]]);
    expect(index.get(3)).toBeNull();
  });

  test('whatever leaves, or never enters, is told: it lies on the disk still', () => {
    const left: [number, number][] = [];
    const index = new DiskIndex((id, region) => left.push([id, region]));
    for (const record of [segment(1, 'ab'), segment(2, 'abcd', 2), point(3, 'ab'), point(5, 'ab'), point(4, 'ab')])
      index.add(record);
    expect(left.map(([id]) => id)).toEqual([3, 4]); // the later of two points stays, whichever came first
    index.add({ ...segment(6, 'x'), toToken: 5 });
    index.remove(1, 'evicted');
    expect(left.map(([id]) => id)).toEqual([3, 4, 6, 1, 2, 5]);
  });

  test('another identity or scope never matches, the same tokens or not', () => {
    const other = { identity: 'j'.repeat(16) };
    const index = indexOf(segment(1, 'abc', 0, other));
    expect(index.find(chain('abc')).blocks).toBe(0);
    expect(index.find(chain('abc', root(other.identity))).blocks).toBe(3);
  });

  test('a point is found at its own boundary and nowhere else', () => {
    const index = indexOf(segment(1, 'abcdef'), point(2, 'ab'), point(3, 'abcde'));
    expect(index.pointAt(last('ab'))).toMatchObject({ id: 2, toBlock: 2 });
    expect(index.pointAt(last('abcde'))?.id).toBe(3);
    expect(index.pointAt(last('abc'))).toBeNull();
  });
});

describe('coming and going', () => {
  test('what hangs on a record leaves with it, what it hangs on stays', () => {
    const index = indexOf(
      segment(1, 'abcd'),
      segment(2, 'abcdef', 4),
      segment(3, 'abXY', 2),
      segment(4, 'abXYZ', 4),
      point(5, 'abcdef'),
      point(6, 'ab'),
      point(7, 'abXYZ'),
    );
    expect(ids(index.remove(3, 'evicted'))).toEqual([3, 4, 7]);
    index.checkIntegrity();
    expect(index.find(chain('abcdef')).blocks).toBe(6);
    expect(ids(index.remove(1, 'evicted'))).toEqual([1, 2, 5, 6]);
    index.checkIntegrity();
    expect(index.size).toBe(0);
    expect(index.totals()).toMatchObject({ segments: 0, blocks: 0, evictedRecords: 7, evictedBlocks: 9 });
    expect(index.remove(1, 'evicted')).toEqual([]);
  });

  test('records in any order; what still hangs on nothing at the end of recovery is dropped', () => {
    const index = new DiskIndex();
    const lonely = [segment(8, 'xyzw', 3), segment(9, 'xyzwv', 4), point(10, 'xyzwv'), point(11, 'q')];
    for (const record of [point(4, 'abcdef'), ...lonely, segment(2, 'abcdef', 4), segment(1, 'abcd')])
      index.add(record);
    index.checkIntegrity();
    expect(index.find(chain('xyzwv')).blocks).toBe(0);
    expect(ids(index.dropOrphans())).toEqual([8, 9, 10, 11]);
    index.checkIntegrity();
    expect(index.find(chain('abcdef')).blocks).toBe(6);
    expect(ids(index.dropOrphans())).toEqual([]);
  });

  test('a child that was written before its parent waits for it', () => {
    const index = indexOf(segment(1, 'ab'));
    index.add(segment(3, 'abcdef', 4, { createdMs: 9 }));
    index.add(segment(2, 'abcd', 2));
    expect(index.dropOrphans()).toEqual([]);
    index.checkIntegrity();
    expect(index.find(chain('abcdef')).blocks).toBe(6);
    index.ageParents();
    expect(index.get(1)?.lastUsedMs).toBe(9);
  });

  test('a record told twice counts once and lies where it was told last', () => {
    const index = indexOf(segment(1, 'ab', 0, { region: 3 }));
    index.add(segment(1, 'ab', 0, { region: 5 }));
    index.checkIntegrity();
    expect([ids(index.inRegion(3)), ids(index.inRegion(5)), index.size]).toEqual([[], [1], 1]);
    index.moved(1, 7);
    index.moved(99, 7);
    expect([index.find(chain('a')).pieces[0]?.region, ids(index.inRegion(7))]).toEqual([7, [1]]);
  });

  test('of two points at one boundary the later stays, whichever was told first', () => {
    for (const order of [
      [2, 3],
      [3, 2],
    ]) {
      const index = indexOf(segment(1, 'ab'), ...order.map((id) => point(id, 'ab')));
      expect(index.pointAt(last('ab'))?.id).toBe(3);
      expect(index.size).toBe(2);
    }
  });

  test('a record that contradicts itself is not taken', () => {
    const good = segment(1, 'abc');
    const index = new DiskIndex();
    for (const bad of [
      { ...good, blocks: good.blocks.slice(1) },
      { ...good, key: good.blocks[0] as HashKey },
      { ...good, toToken: 0 },
      { ...good, fromToken: 1, toToken: 385 },
      { ...good, blocks: ['', ...good.blocks.slice(1)] },
      { ...good, key: 'short' },
      { ...point(2, 'a'), fromToken: 0 },
      { ...point(2, 'a'), blocks: good.blocks },
    ])
      expect(index.add(bad)).toBe(false);
    expect(index.size).toBe(0);
  });
});

describe('use', () => {
  test('a hit marks every segment on the way and the point that was restored, no other', () => {
    const index = indexOf(
      segment(1, 'abcd'),
      segment(2, 'abcdef', 4),
      segment(3, 'abcdefg', 6),
      point(4, 'abcde'),
      point(5, 'ab'),
    );
    index.hit(chain('abcdexx'), 5, 100);
    index.checkIntegrity();
    expect([1, 2, 3, 4, 5].map((id) => index.get(id)?.isHit)).toEqual([true, true, false, true, false]);
    expect(index.get(2)?.lastUsedMs).toBe(100);
    index.setHit(1, false);
    expect(index.get(1)?.isHit).toBe(false);
    index.hit(chain('zzz'), 3, 200);
    index.hit(chain('abcd'), 0, 200);
    expect(index.get(1)?.lastUsedMs).toBe(100);
  });

  test('selects by scope, by prefix, by age, parents first', () => {
    const other = { scope: 't'.repeat(16) };
    const index = indexOf(
      segment(1, 'abcd', 0, { createdMs: 10 }),
      segment(2, 'abcdef', 4, { createdMs: 20 }),
      segment(3, 'abXY', 2, { createdMs: 30 }),
      point(4, 'ab', { createdMs: 10 }),
      point(5, 'abcdef', { createdMs: 20 }),
      segment(6, 'abcd', 0, { ...other, createdMs: 5 }),
    );
    const select = (scopeTag: string | null, key: HashKey | null, unusedSinceMs: number | null = null) =>
      ids(index.select({ scopeTag, key, unusedSinceMs }));
    expect(select(null, null)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(select(other.scope, null)).toEqual([6]);
    expect(select('u'.repeat(16), null)).toEqual([]);
    expect(select(null, last('abcde'))).toEqual([2, 5]);
    // The block lies in segment 1, which is a whole: it goes, but not what hangs on its earlier blocks.
    expect(select(null, last('abcd'))).toEqual([1, 2, 5]);
    expect(select(null, last('ab'))).toEqual([1, 2, 3, 4, 5]);
    expect(select(other.scope, last('ab'))).toEqual([]);
    expect(select(null, last('zz'))).toEqual([]);
    // Segment 1 was used when segment 3 was written behind it.
    expect(select(null, null, 25)).toEqual([2, 4, 5, 6]);
    expect(index.select({ scopeTag: null, key: null, unusedSinceMs: null }).map(({ fromBlock }) => fromBlock)).toEqual([
      0, 0, 2, 2, 4, 6,
    ]);
  });

  test('a pin holds the way from the root and the deepest point on it, until its time', () => {
    const index = indexOf(
      segment(1, 'abcd'),
      segment(2, 'abcdef', 4),
      segment(3, 'abXY', 2),
      point(4, 'abcde'),
      point(5, 'ab'),
    );
    expect(index.pin(last('abcdef'), 1000, 0, 10_000)).toBe(400 + 200 + 50);
    expect(ids([...index.pinned(999)].map((id) => ({ id })))).toEqual([1, 2, 4]);
    expect(index.pin(last('abX'), 500, 0, 10_000)).toBe(400 + 200 + 50);
    expect(index.bytesOf(index.pinned(499))).toBe(400 + 200 + 200 + 50 + 50);
    expect(ids([...index.pinned(500)].map((id) => ({ id })))).toEqual([1, 2, 4]);
    expect(index.unpin(last('abcdef'))).toBe(650);
    expect(index.unpin(last('abcdef'))).toBeNull();
    expect(index.pinned(0).size).toBe(0);
  });

  test('a pin is refused for what is not stored, and beyond what pins may hold together', () => {
    const index = indexOf(segment(1, 'abcd'), segment(2, 'xy'));
    expect(index.pin(last('q'), 10, 0, 1000)).toBe('not-found');
    expect(index.pin(last('abcd'), 10, 0, 399)).toBe('full');
    expect(index.pin(last('abcd'), 10, 0, 500)).toBe(400);
    expect(index.pin(last('xy'), 10, 0, 500)).toBe('full');
    expect(index.pin(last('abcd'), 20, 0, 500)).toBe(400);
    expect(index.pin(last('xy'), 30, 20, 500)).toBe(200);
  });
});

describe('why a prompt was not hit further', () => {
  const own = { identity: IDENTITY, scope: SCOPE };
  const explain = (index: DiskIndex, prompt: string, hits: number) =>
    index.explain(chain(prompt), hits, own, () => chain(prompt, root('plain', '')));

  test('never seen, or differs after some blocks', () => {
    expect(explain(indexOf(), 'abc', 0)).toEqual({ reason: 'new', nearestBlocks: 0 });
    expect(explain(indexOf(segment(1, 'ab')), 'abc', 2)).toEqual({ reason: 'diverged', nearestBlocks: 0 });
  });

  test('stored, but no point to go on from', () => {
    expect(explain(indexOf(segment(1, 'abcd')), 'abcx', 0)).toEqual({ reason: 'no-point', nearestBlocks: 3 });
  });

  test('evicted or corrupt, until it is stored again', () => {
    const index = indexOf(segment(1, 'ab'), segment(2, 'abcd', 2), point(3, 'abcd'), point(4, 'ab'));
    index.remove(3, 'corrupt');
    expect(explain(index, 'abcd', 2)).toEqual({ reason: 'corrupt', nearestBlocks: 4 });
    index.add(point(5, 'abcd'));
    index.remove(2, 'evicted');
    expect(explain(index, 'abcd', 2)).toEqual({ reason: 'evicted', nearestBlocks: 0 });
    index.add(segment(6, 'abcd', 2));
    index.add(point(7, 'abcd'));
    index.remove(6, 'purged');
    expect(explain(index, 'abcd', 2)).toEqual({ reason: 'diverged', nearestBlocks: 0 });
  });

  test('known under another identity or another scope', () => {
    const identity = 'j'.repeat(16);
    const scope = 't'.repeat(16);
    expect(explain(indexOf(segment(1, 'ab', 0, { identity })), 'abc', 0)).toEqual({
      reason: 'fingerprint',
      nearestBlocks: 2,
    });
    expect(explain(indexOf(segment(1, 'ab', 0, { scope })), 'abc', 0)).toEqual({ reason: 'scope', nearestBlocks: 2 });
  });
});

test('agrees with a model that recomputes everything, whatever comes and goes', () => {
  // Three letters and at most six blocks: prompts meet, part and overlap all the time.
  const prompt = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 6 });
  const step = fc.oneof(
    fc.record({ t: fc.constant('segment' as const), prompt, from: fc.nat(5) }),
    fc.record({ t: fc.constant('point' as const), prompt }),
    fc.record({ t: fc.constant('remove' as const), which: fc.nat() }),
    fc.record({ t: fc.constant('hit' as const), prompt, blocks: fc.nat(6) }),
    fc.record({ t: fc.constant('move' as const), which: fc.nat(), region: fc.nat(3) }),
    fc.record({ t: fc.constant('sweep' as const) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.array(prompt, { minLength: 5, maxLength: 5 }), (steps, asked) => {
      const index = new DiskIndex();
      let model: RecordInfo[] = [];
      const holds = (hash: HashKey) =>
        model.some((record) => record.kind === 'segment' && record.blocks.includes(hash));
      const isOrphan = (record: RecordInfo) =>
        record.kind === 'point' ? !holds(record.key) : record.fromToken > 0 && !holds(record.parent);
      const sweep = () => {
        for (let before = -1; before !== model.length; ) {
          before = model.length;
          model = model.filter((record) => !isOrphan(record));
        }
      };
      let id = 0;
      for (const action of steps) {
        if (action.t === 'segment' && action.from < action.prompt.length) {
          const record = segment(++id, action.prompt, action.from, { createdMs: id });
          index.add(record);
          model.push(record);
        } else if (action.t === 'point') {
          const record = point(++id, action.prompt, { createdMs: id });
          index.add(record);
          model = [...model.filter(({ kind, key }) => kind !== 'point' || key !== record.key), record];
        } else if (action.t === 'remove' && model.length > 0) {
          // Orphans are swept first, or the model would have to tell those that wait from those that lost their hold.
          index.dropOrphans();
          sweep();
          const record = model[action.which % model.length];
          if (record) {
            index.remove(record.id, 'evicted');
            model = model.filter((other) => other !== record);
            sweep();
          }
        } else if (action.t === 'hit')
          index.hit(chain(action.prompt), Math.min(action.blocks, action.prompt.length), 1000 + id);
        else if (action.t === 'move' && model.length > 0)
          index.moved((model[action.which % model.length] as RecordInfo).id, action.region);
        else if (action.t === 'sweep') {
          index.dropOrphans();
          sweep();
        }
        index.checkIntegrity();
      }
      index.dropOrphans();
      sweep();
      index.checkIntegrity();
      expect(ids(index.select({ scopeTag: null, key: null, unusedSinceMs: null }))).toEqual(ids(model));
      for (const text of asked) {
        const hashes = chain(text);
        const found = index.find(hashes);
        const expected = hashes.findIndex((hash) => !holds(hash));
        expect(found.blocks).toBe(expected < 0 ? hashes.length : expected);
        // Every piece holds what it says, where it says.
        let at = 0;
        for (const piece of found.pieces) {
          const record = model.find(({ id }) => id === piece.id) as RecordInfo;
          expect(record.blocks.slice(piece.skip, piece.skip + piece.blocks)).toEqual(
            hashes.slice(at, at + piece.blocks),
          );
          at += piece.blocks;
        }
        expect(at).toBe(found.blocks);
      }
    }),
    { numRuns: 300 },
  );
});
