// Where a prompt can start, over blocks and points placed by hand; letters are blocks (records.ts).

import { expect, test } from 'vitest';
import { DiskIndex } from '../../../src/kv/disk-index.js';
import type { PointMode } from '../../../src/kv/points.js';
import { RamTier } from '../../../src/kv/ram-tier.js';
import { findStart } from '../../../src/kv/start.js';
import { chain, point, root, segment } from './records.js';

/** `ram`: blocks that lie in RAM; `points`: prefixes whose point does; `disk`: records. */
function start(
  letters: string,
  tail: number,
  options: {
    ram?: string;
    points?: readonly string[];
    tails?: readonly (readonly [prefix: string, tokens: readonly number[]])[];
    disk?: readonly ReturnType<typeof segment>[];
    mode?: PointMode;
  } = {},
) {
  const ram = new RamTier({ numSlots: 99, blockBytes: 1, keptBytesMax: 99, releasePoint: () => {}, now: () => 0 });
  const keys = chain(options.ram ?? '');
  for (const key of keys) ram.name(ram.take() as number, key, { parent: '', scopeTag: '' });
  const keyOf = (prefix: string) => chain(prefix).at(-1) ?? root();
  for (const [index, prefix] of (options.points ?? []).entries()) ram.addPoint(index + 1, 1, keyOf(prefix), '');
  for (const [index, [prefix, tokens]] of (options.tails ?? []).entries())
    ram.addPoint(index + 50, 1, keyOf(prefix), '', Uint32Array.from(tokens));
  const index = new DiskIndex();
  for (const record of options.disk ?? []) index.add(record);
  const tokens = new Uint32Array(letters.length * 128 + tail).fill(7);
  const question = {
    tokens,
    chain: chain(letters),
    root: root(),
    mode: options.mode ?? ('periodic' as const),
    replayTokens: 200,
  };
  return findStart(question, ram, options.disk ? index : null);
}

test('nothing known: from the beginning', () => {
  expect(start('abc', 1)).toEqual({ tokens: 0, blocks: 0, point: null, runs: [], known: 0 });
});

test('the deepest point behind which all rows are known; one token is left to compute', () => {
  expect(start('abc', 1, { ram: 'abc', points: ['a', 'ab', 'abc'] })).toMatchObject({
    tokens: 384,
    point: { handle: 3 },
  });
  expect(start('abc', 0, { ram: 'abc', points: ['a', 'ab', 'abc'] })).toMatchObject({
    tokens: 256,
    point: { handle: 2 },
  });
  expect(start('abc', 1, { ram: 'ab', points: ['a', 'abc'] })).toMatchObject({
    tokens: 128,
    point: { handle: 1 },
    known: 2,
  });
  expect(start('abc', 1, { ram: 'abc' })).toMatchObject({ tokens: 0, point: null, known: 3 });
});

test('RAM is preferred to the disk, for rows and for points', () => {
  const disk = [segment(1, 'abcd'), point(2, 'abc'), point(3, 'abcd')];
  expect(start('abcd', 1, { disk })).toMatchObject({
    tokens: 512,
    point: { t: 'disk', record: { id: 3 } },
    runs: [{ id: 1, skip: 0, first: 0, blocks: 4 }],
  });
  expect(start('abcd', 1, { disk, ram: 'ab', points: ['abcd'] })).toMatchObject({
    point: { t: 'ram', handle: 1 },
    runs: [{ id: 1, skip: 2, first: 2, blocks: 2 }],
  });
  expect(start('abcx', 1, { disk })).toMatchObject({ tokens: 384, point: { record: { id: 2 } }, known: 3 });
});

test('rows may go from the disk to RAM and back; each gap is a run of one segment', () => {
  const disk = [segment(1, 'ab'), segment(2, 'abcdef', 2), point(3, 'abcdef')];
  expect(start('abcdef', 1, { disk }).runs).toMatchObject([
    { id: 1, skip: 0, first: 0, blocks: 2 },
    { id: 2, skip: 0, first: 2, blocks: 4 },
  ]);
});

test('an exact end in RAM beats the boundary before it when every token of it is the prompt’s', () => {
  const tails = [
    ['a', [7, 7, 7]],
    ['a', [7, 7, 8]],
    ['a', [7, 7, 7, 7, 7]],
    ['ab', new Array(50).fill(7)],
  ] as const;
  expect(start('a', 4, { ram: 'a', points: ['a'], tails })).toMatchObject({
    tokens: 131,
    blocks: 1,
    point: { handle: 50 },
  });
  expect(start('a', 6, { ram: 'a', points: ['a'], tails })).toMatchObject({ tokens: 133, point: { handle: 52 } });
  expect(start('a', 3, { ram: 'a', points: ['a'], tails })).toMatchObject({ tokens: 128, point: { handle: 1 } });
  expect(start('ab', 51, { ram: 'ab', points: ['a'], tails })).toMatchObject({ tokens: 306, blocks: 2, runs: [] });
  expect(start('ab', 51, { ram: 'a', points: ['a'], tails })).toMatchObject({ tokens: 133, point: { handle: 52 } });
  expect(start('ab', 51, { ram: 'a', points: ['a'], tails: tails.slice(3) })).toMatchObject({ tokens: 128 });
  expect(start('', 9, { tails: [['', [7, 7]]] })).toMatchObject({ tokens: 2, blocks: 0, point: { handle: 50 } });
});

test('a replay starts so many tokens before the end of what is known, at a boundary, and needs no point', () => {
  const disk = [segment(1, 'abcdef')];
  expect(start('abcdef', 1, { disk, mode: 'replay' })).toMatchObject({
    tokens: 512, // 768 - 200, rounded down
    blocks: 6,
    point: null,
    runs: [{ id: 1, skip: 0, first: 0, blocks: 6 }],
    known: 6,
  });
  expect(start('ab', 1, { disk: [segment(1, 'ab')], mode: 'replay' })).toMatchObject({
    tokens: 0,
    blocks: 0,
    known: 2,
  });
});
