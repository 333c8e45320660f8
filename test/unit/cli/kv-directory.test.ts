// The quota that nobody asked for: a tenth of what is free, counted the same before and after the directory fills.

import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { exitCodeOf } from '../../../src/cli/format.js';
import { nearestExisting, quotaFor } from '../../../src/cli/kv-directory.js';

const folder = mkdtempSync(join(tmpdir(), 'nandu-kv-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('what is given is taken as it is', () => {
  expect(quotaFor('/nowhere/at/all', 12_345)).toBe(12_345);
});

test('otherwise it is a tenth of what is free where the directory will be, at most 64 GiB', () => {
  const { bavail, bsize } = statfsSync(folder);
  const quota = quotaFor(join(folder, 'not', 'there', 'yet'), 0);
  expect(quota).toBeGreaterThan(0);
  expect(quota).toBeLessThanOrEqual(64 * 2 ** 30);
  // Others write to this disk too.
  expect(quota / Math.min((bavail * bsize) / 10, 64 * 2 ** 30)).toBeCloseTo(1, 1);
});

test('the nearest folder that is there is found upwards', () => {
  expect(nearestExisting(join(folder, 'a', 'b'))).toBe(folder);
  expect(nearestExisting(folder)).toBe(folder);
});

test('below a plain file there is no room for a folder: 74, by name', () => {
  const file = join(folder, 'file');
  writeFileSync(file, 'x');
  const below = join(file, 'kv');
  let error: unknown;
  try {
    quotaFor(below, 0);
  } catch (caught) {
    error = caught;
  }
  expect([exitCodeOf(error), (error as Error).message.startsWith(below)]).toEqual([74, true]);
});
