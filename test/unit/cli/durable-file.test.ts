// Small files beside the cache: what is there in full is read, and nothing that others put there is waited for.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { readSmallFile, writeDurably } from '../../../src/cli/durable-file.js';
import { quotaFor } from '../../../src/cli/kv-directory.js';
import { PinFile } from '../../../src/cli/pins.js';

const folder = mkdtempSync(join(tmpdir(), 'nandu-small-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('what was written is read, over whatever a crash left of the draft', async () => {
  const path = join(folder, 'file');
  writeFileSync(`${path}.new`, 'half of it, and longer than what comes');
  await writeDurably(path, 'one');
  await writeDurably(path, 'two');
  expect(await readSmallFile(path)).toBe('two');
  expect(statSync(path).mode & 0o777).toBe(0o600);
});

test('a pipe, a device and a file that grew without end hold nothing, at once', async () => {
  expect(await readSmallFile(join(folder, 'not-there'))).toBe('');
  execFileSync('mkfifo', [join(folder, 'pipe'), join(folder, 'file.new')]);
  expect(await readSmallFile(join(folder, 'pipe'))).toBe('');
  symlinkSync('/dev/zero', join(folder, 'device'));
  expect(await readSmallFile(join(folder, 'device'))).toBe('');
  writeFileSync(join(folder, 'huge'), '');
  truncateSync(join(folder, 'huge'), 2 ** 40);
  expect(await readSmallFile(join(folder, 'huge'))).toBe('');
  await writeDurably(join(folder, 'file'), 'three'); // not into the pipe
  expect(await readSmallFile(join(folder, 'file'))).toBe('three');
});

test('pins are read from what is there, none from a pipe, which the next pin takes the place of', async () => {
  const key = '\u0001'.repeat(32);
  const directory = join(folder, 'pins');
  mkdirSync(directory);
  execFileSync('mkfifo', [join(directory, 'pins.json')]);
  const pins = new PinFile(directory);
  expect(await pins.read(0)).toEqual(new Map());
  await pins.save(new Map([[key, 7]]));
  expect(await new PinFile(directory).read(0)).toEqual(new Map([[key, 7]]));
});

test('a link that leads to itself counts nothing towards the quota', () => {
  const directory = join(folder, 'loop');
  mkdirSync(directory);
  symlinkSync('lock', join(directory, 'lock'));
  expect(quotaFor(directory, 0)).toBeGreaterThan(0);
});
