// Numbers, tables, the progress line, exit codes, ids from files: what a person or a script reads.

import { CommanderError } from 'commander';
import { expect, test } from 'vitest';
import { AddonError } from '../../../src/addon/load.js';
import { Failure } from '../../../src/base/failures.js';
import {
  bytes,
  count,
  exitCodeOf,
  figure,
  InputError,
  Interrupted,
  Progress,
  table,
  toJson,
  UsageError,
} from '../../../src/cli/format.js';
import { integer, parseIds, real } from '../../../src/cli/options.js';
import { VocabularyError } from '../../../src/text/vocabulary.js';

test('numbers', () => {
  expect([0, 1023, 1024, 1536, 20 * 1024 ** 2, 3 * 1024 ** 4, 5000 * 1024 ** 4].map(bytes)).toEqual([
    '0 B',
    '1,023 B',
    '1.00 KiB',
    '1.50 KiB',
    '20.0 MiB',
    '3.00 TiB',
    '5000.0 TiB',
  ]);
  expect([1234567, 0.6].map(count)).toEqual(['1,234,567', '1']);
  expect([65536, 0.000123456, 6.565432, Number.NaN].map(figure)).toEqual(['65536', '0.0001235', '6.565', 'undefined']);
});

test('a table pads to columns and leaves no blanks at the end of a line', () => {
  expect(table([['a', 'bb', 'c'], ['aaa', 'b'], ['x']])).toBe('a    bb  c\naaa  b\nx');
  expect(table([])).toBe('');
});

test('JSON keeps lists of numbers on one line and strings as they are', () => {
  const value = { ids: [1, -2, 3e30], text: '[ 1,\n 2 ]', names: ['a'], none: [] };
  expect(toJson(value).split('\n')).toContain('  "ids": [1, -2, 3e+30],');
  expect(JSON.parse(toJson(value))).toEqual(value);
});

test('each kind of error has its exit code', () => {
  const native = (code: string, message = 'x') => Object.assign(new Error(message), { code });
  expect(
    [
      new CommanderError(0, 'commander.help', ''),
      new CommanderError(1, 'commander.unknownOption', ''),
      new UsageError(''),
      new InputError(''),
      new VocabularyError('tokenizer.ggml.pre', ''),
      new AddonError(''),
      new Interrupted(),
      new Failure('CONTEXT_LENGTH_EXCEEDED', ''),
      new Failure('ENGINE_FAILURE', ''),
      new Failure('MEMORY_EXHAUSTED', ''),
      native('MODEL_FILE'),
      native('INVALID_ARGUMENT'),
      native('INVALID_ARGUMENT', 'NANDU_TARGET: unknown'),
      native('NO_MEMORY'),
      native('IO'),
      native('ENGINE'),
      new Error(''),
      'thrown',
    ].map(exitCodeOf),
  ).toEqual([0, 64, 64, 66, 66, 69, 130, 64, 1, 71, 66, 64, 78, 71, 74, 1, 1, 1]);
});

function progress(isTTY: boolean) {
  let now = 0;
  const written: string[] = [];
  const output = { isTTY, write: (text: string) => written.push(text) };
  const line = new Progress('scoring', 'tokens', output, () => now);
  return {
    written,
    line,
    at: (ms: number, done: number) => {
      now = ms;
      line.update(done, 4000);
    },
  };
}

test('progress is silent for a second, then redraws one line on a terminal and takes it off at the end', () => {
  const { written, line, at } = progress(true);
  at(10, 10);
  at(999, 900);
  expect(written).toEqual([]);
  at(1000, 1000);
  at(1050, 1050);
  at(1100, 1100);
  line.end();
  line.end();
  expect(written).toEqual([
    '\r\x1b[Kscoring  25 %  1,000 of 4,000 tokens  3 s left',
    '\r\x1b[Kscoring  27 %  1,100 of 4,000 tokens  3 s left',
    '\r\x1b[K',
  ]);
});

test('in a log progress is a plain line every few seconds', () => {
  const { written, line, at } = progress(false);
  for (let ms = 0; ms <= 12_000; ms += 500) at(ms, ms / 3);
  line.end();
  expect(written.length).toBe(3);
  expect(written[0]).toBe('scoring  8 %  333 of 4,000 tokens  11 s left\n');
});

test('ids are read from any white space, and the wrong one is named', () => {
  expect([...parseIds(' 1\t22\n\n4294967295 ', 'x')]).toEqual([1, 22, 4294967295]);
  expect(parseIds('', 'x').length).toBe(0);
  for (const wrong of ['-1', '1.5', 'abc', '4294967296', '0x10', '1e3']) {
    expect(() => parseIds(`7 ${wrong}`, 'ids.txt')).toThrow(`ids.txt: entry 2, "${wrong}", is not a token id`);
  }
});

test('numbers of flags have ranges', () => {
  expect(integer(0, 10)('7')).toBe(7);
  for (const wrong of ['11', '-1', '1.5', '', 'x', '1e1']) expect(() => integer(0, 10)(wrong)).toThrow('from 0 to 10');
  expect(real(0, 1)('0.25')).toBe(0.25);
  for (const wrong of ['1.5', '-0.1', '', 'x', 'NaN', 'Infinity'])
    expect(() => real(0, 1)(wrong)).toThrow('from 0 to 1');
});
