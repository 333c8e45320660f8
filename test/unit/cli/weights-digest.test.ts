// Which files a model file's path means. The digest itself needs a worker of the built code: test/e2e/kv-model-file.test.ts.

import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { WeightsFiles } from '../../../src/cli/weights-digest.js';

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'nandu-weights-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function put(name: string): string {
  const path = join(folder, name);
  writeFileSync(path, name);
  return path;
}

test('a split file is all its parts', () => {
  const first = put('x-00001-of-00003.gguf');
  put('x-00002-of-00003.gguf');
  const last = put('x-00003-of-00003.gguf');
  const weights = WeightsFiles.open(first);
  expect([weights.isWhereItWas(), weights.isUnchanged()]).toEqual([true, true]);
  writeFileSync(last, 'something else');
  expect([weights.isWhereItWas(), weights.isUnchanged()]).toEqual([true, false]);
  renameSync(last, `${last}.moved`);
  expect(weights.isWhereItWas()).toBe(false);
  weights.close();
});

test('a whole file may be named as a part, and is what it is as long as the part behind it does not come', () => {
  const weights = WeightsFiles.open(put('x-00001-of-00002.gguf'));
  expect([weights.isWhereItWas(), weights.isUnchanged()]).toEqual([true, true]);
  put('x-00002-of-00002.gguf');
  expect(weights.isWhereItWas()).toBe(false);
  weights.close();
});

test('a whole file named as a later part is that file', () => {
  const weights = WeightsFiles.open(put('x-00002-of-00002.gguf'));
  expect(weights.isWhereItWas()).toBe(true);
  weights.close();
});

test('what opening throws names the file', () => {
  const path = join(folder, 'x-00001-of-00002.gguf');
  expect(() => WeightsFiles.open(path)).toThrow(path);
});
