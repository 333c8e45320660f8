// The arithmetic of `nandu plan` against the figures of deepseek-v4.md §3.2 and §4.2, to the byte, and what follows from it.

import { describe, expect, test } from 'vitest';
import {
  bytesPerToken,
  capacityOf,
  computeSecondsMin,
  diskBytes,
  type KvGeometry,
  OUR_ROWS,
  PRESETS,
  PUBLISHED_ROWS,
  pointBytes,
  recordBytes,
  restoreSeconds,
} from '../../../src/cli/capacity.js';

const Pro = PRESETS['V4-Pro'];
const Flash = PRESETS['V4-Flash'];
const machine = { ramBytes: 2 ** 40, ssdBytes: 1e12, diskBandwidth: 3e9, memoryBandwidth: 200e9 };

describe('bytes a token', () => {
  test.each<[string, KvGeometry, number, number, number]>([
    ['Pro, bf16', Pro, 1024, 256, 9848],
    ['Pro, 584 and 128', Pro, 584, 128, 5481.4375],
    ['Pro, 584 and 132', Pro, 584, 132, 5511.4375],
    ['Pro, 584 and 68', Pro, 584, 68, 5031.4375],
    ['Pro, q8_0', Pro, 544, 136, 5231.75],
    ['Pro, payload only', Pro, 512, 64, 4444],
    ['Pro, 576 dims', Pro, 1152, 0, 8919],
    ['Pro, f32', Pro, 2048, 512, 19_696],
    ['Flash, bf16', Flash, 1024, 256, 6880],
    ['Flash, 584 and 128', Flash, 584, 128, 3829.25],
    ['Flash, 584 and 132', Flash, 584, 132, 3850.25],
    ['Flash, 584 and 68', Flash, 584, 68, 3514.25],
    ['Flash, q8_0', Flash, 544, 136, 3655],
    ['Flash, 576 dims', Flash, 1152, 0, 6228],
    ['Flash, f32', Flash, 2048, 512, 13_760],
  ])('of %s', (_, geometry, main, index, total) => {
    expect(bytesPerToken(geometry, { main, index }).total).toBe(total);
  });

  test('are those of CSA and HCA layers together', () => {
    expect(bytesPerToken(Pro, PUBLISHED_ROWS)).toEqual({ csa: 5340, hca: 141.4375, total: 5481.4375 });
  });

  test('give the 5.48 GB that are published for 1,000,000 tokens of V4-Pro, and 5.03 GB as we keep them', () => {
    const { publishedMillionBytes, millionBytes } = capacityOf(Pro, 1_000_000, machine);
    expect(publishedMillionBytes).toBe(5_481_437_500);
    expect(millionBytes).toBe(5_031_437_500);
  });

  test('of a page of 128 tokens are what a block takes', () => {
    expect(bytesPerToken(Flash, OUR_ROWS).total * 128).toBe(449_824);
    expect(bytesPerToken(Pro, OUR_ROWS).total * 128).toBe(644_024);
  });
});

test('a point is the windows of all layers and the carry of the CSA layers', () => {
  expect(pointBytes(Flash, OUR_ROWS)).toBe(43 * 127 * 584 + 430_080);
  expect(pointBytes(Pro, OUR_ROWS)).toBe(61 * 127 * 584 + 614_400);
});

describe('on disk', () => {
  test('a record is a page of header and whole pages', () => {
    expect([0, 1, 4096, 4097].map(recordBytes)).toEqual([4096, 8192, 8192, 12_288]);
  });

  test('a prompt that has no whole block before its last token takes nothing', () => {
    for (const tokens of [1, 127, 128]) expect(diskBytes(Flash, tokens).total).toBe(0);
    expect(diskBytes(Flash, 129)).toMatchObject({ numSegments: 1, numPoints: 1, segments: 449_824 });
  });

  test('segments end every 4,096 tokens, and so do points', () => {
    expect(diskBytes(Flash, 4096 + 1)).toMatchObject({ numSegments: 1, numPoints: 1, segments: 4096 * 3514.25 });
    expect(diskBytes(Flash, 4096 + 129)).toMatchObject({ numSegments: 2, numPoints: 2, segments: 4224 * 3514.25 });
  });

  test('headers and padding are within 1 % of the rows of a long prompt', () => {
    for (const geometry of [Flash, Pro]) {
      const { segments, points, padding, total } = diskBytes(geometry, 65_537);
      expect(segments + points + padding).toBe(total);
      expect(padding).toBeGreaterThan(0);
      expect(padding / segments).toBeLessThan(0.01);
    }
  });
});

describe('time', () => {
  test('of a restore is the slower of the disk and three passes through memory', () => {
    expect(restoreSeconds(3e9, machine)).toBe(1);
    expect(restoreSeconds(3e9, { ...machine, memoryBandwidth: 3e9 })).toBe(3);
  });

  test('of computing is at least the weights once for each step, from disk where RAM does not hold them', () => {
    const geometry = { ...Flash, weightBytes: 200e9 };
    expect(computeSecondsMin(geometry, 512, machine)).toBe(1);
    expect(computeSecondsMin(geometry, 513, machine)).toBe(2);
    expect(computeSecondsMin(geometry, 512, { ...machine, ramBytes: 170e9 })).toBe(0.85 + 10);
  });
});

test('what a disk holds is counted in prompts of that length, what memory holds beside the weights', () => {
  const { ssdTokens, ramTokens, disk } = capacityOf(Flash, 131_072, machine);
  expect(ssdTokens).toBe(Math.floor((1e12 / disk.total) * 131_072));
  expect(ssdTokens).toBeGreaterThan(200e6);
  expect(ssdTokens).toBeLessThan(285e6); // the rows alone
  expect(ramTokens).toBe(Math.floor((2 ** 40 - Flash.weightBytes) / 3514.25));
  expect(capacityOf(Flash, 1000, { ...machine, ramBytes: 1e9 }).ramTokens).toBe(0);
});
