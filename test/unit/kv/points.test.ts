// Where points go and where segments are cut: chosen cases by hand, rules by property.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { hittableBlocks } from '../../../src/kv/block.js';
import { POINT_MODES, type PointRequest, pointBoundaries, segmentsFor } from '../../../src/kv/points.js';

const request = (overrides: Partial<PointRequest>): PointRequest => ({
  mode: 'periodic',
  promptTokens: 10_000,
  totalTokens: overrides.promptTokens ?? 10_000,
  start: 0,
  boundaries: [],
  branchAt: null,
  ...overrides,
});

describe('points', () => {
  test('one token of a prompt is always left to compute', () => {
    const ends = (promptTokens: number) => pointBoundaries(request({ mode: 'ends', promptTokens }));
    expect([1, 127, 128, 129, 256, 257].map(ends)).toEqual([[], [], [], [128], [128], [256]]);
    expect([0, 1, 128, 129, 4097].map(hittableBlocks)).toEqual([0, 0, 0, 1, 32]);
  });

  test('periodic: every 4,096 tokens, wishes, the branch, the end', () => {
    expect(pointBoundaries(request({}))).toEqual([4096, 8192, 9984]);
    expect(pointBoundaries(request({ boundaries: [2000, 2050, 4096, 99_999, -5], branchAt: 6400 }))).toEqual([
      1920, 2048, 4096, 6400, 8192, 9984,
    ]);
    expect(pointBoundaries(request({ start: 4096 }))).toEqual([8192, 9984]);
    expect(pointBoundaries(request({ start: 9984 }))).toEqual([]);
  });

  test('ends: no branch and no period; replay: none; full: all', () => {
    expect(pointBoundaries(request({ mode: 'ends', boundaries: [2000], branchAt: 6400 }))).toEqual([1920, 9984]);
    expect(pointBoundaries(request({ mode: 'replay', boundaries: [2000], branchAt: 6400 }))).toEqual([]);
    expect(pointBoundaries(request({ mode: 'full', promptTokens: 513, start: 130 }))).toEqual([256, 384, 512]);
  });

  test('are multiples of 128, ascending, behind the start, within what can be generated', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...POINT_MODES),
        fc.nat(40_000),
        fc.nat(300),
        fc.array(fc.integer({ min: -1, max: 50_000 }), { maxLength: 5 }),
        fc.option(fc.nat(300)),
        (mode, promptTokens, startBlock, boundaries, branchBlock) => {
          const branchAt = branchBlock === null ? null : branchBlock * 128;
          const totalTokens = promptTokens + 100;
          const start = startBlock * 128;
          const points = pointBoundaries({ mode, promptTokens, totalTokens, start, boundaries, branchAt });
          points.forEach((at, i) => {
            expect(at % 128).toBe(0);
            expect(at).toBeGreaterThan(i === 0 ? start : (points[i - 1] as number));
            expect(at).toBeLessThanOrEqual(totalTokens);
          });
          const last = hittableBlocks(promptTokens) * 128;
          if (mode !== 'replay' && last > start) expect(points).toContain(last);
        },
      ),
    );
  });
});

describe('segments', () => {
  test('end at multiples of 4,096 tokens, smaller ones where a region is small', () => {
    expect(segmentsFor(0, 70, 32)).toEqual([
      { fromBlock: 0, toBlock: 32 },
      { fromBlock: 32, toBlock: 64 },
      { fromBlock: 64, toBlock: 70 },
    ]);
    expect(segmentsFor(5, 33, 100)).toEqual([
      { fromBlock: 5, toBlock: 32 },
      { fromBlock: 32, toBlock: 33 },
    ]);
    expect(segmentsFor(0, 20, 13).map(({ toBlock }) => toBlock)).toEqual([8, 16, 20]);
    expect(segmentsFor(3, 3, 32)).toEqual([]);
    expect(segmentsFor(0, 3, 1)).toHaveLength(3);
    expect(() => segmentsFor(0, 1, 0)).toThrow(RangeError);
  });

  test('cover the range without a gap; a shorter prompt’s whole segments are those of the longer one', () => {
    fc.assert(
      fc.property(
        fc.nat(200),
        fc.nat(200),
        fc.nat(100),
        fc.integer({ min: 1, max: 40 }),
        (from, length, more, most) => {
          const short = segmentsFor(from, from + length, most);
          let at = from;
          for (const { fromBlock, toBlock } of short) {
            expect(fromBlock).toBe(at);
            expect(toBlock - fromBlock).toBeGreaterThan(0);
            expect(toBlock - fromBlock).toBeLessThanOrEqual(Math.min(most, 32));
            at = toBlock;
          }
          expect(at).toBe(from + length);
          const long = segmentsFor(from, from + length + more, most);
          expect(long.slice(0, Math.max(0, short.length - 1))).toEqual(short.slice(0, -1));
        },
      ),
    );
  });
});
