// What is read from files that a flag names: refused in one line, and before memory is taken for it.

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { InputError } from '../../../src/cli/format.js';
import { checkLength, readIds, readText } from '../../../src/cli/options.js';

const folder = mkdtempSync(join(tmpdir(), 'nandu-options-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('a file that no string can hold is refused by its size', async () => {
  const path = join(folder, 'huge.txt');
  writeFileSync(path, '');
  truncateSync(path, 2 ** 40); // without a block on the disk
  for (const read of [readText, readIds]) {
    const refused = read(path);
    await expect(refused).rejects.toThrow(`${path}: is larger than a text may be, 512 MiB`);
    await expect(refused).rejects.toBeInstanceOf(InputError);
  }
});

test('and so is what has no size before it is read', () => {
  checkLength(2 ** 29 - 24, 'standard input');
  expect(() => checkLength(2 ** 29, 'standard input')).toThrow(InputError);
});

test('what is not there, or no file, is named', async () => {
  await expect(readText(join(folder, 'none'))).rejects.toThrow('no such file');
  await expect(readText(folder)).rejects.toThrow('is a directory');
});
