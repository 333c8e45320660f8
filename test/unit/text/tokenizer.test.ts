// Ids against @huggingface/tokenizers on random strings and against llama.cpp's golden ids (test/vectors/text/make.py
// compares 10,000), exact round trips, hostile input, errors at load.

import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Detokenizer } from '../../../src/text/detokenizer.js';
import { PieceScanner } from '../../../src/text/pretokenizer.js';
import { Tokenizer } from '../../../src/text/tokenizer.js';
import { SpecialToken, TokenType, V4_SPECIAL_TOKENS, VocabularyError } from '../../../src/text/vocabulary.js';
import { oracleFor, randomFrom, randomOracleText, tokenizer, vocabulary } from './fixtures.js';

const utf8 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'utf8'));

function piecesOf(text: string): string[] {
  const scanner = new PieceScanner(text);
  const pieces: string[] = [];
  while (scanner.next()) pieces.push(text.slice(scanner.start, scanner.end));
  return pieces;
}

describe('ids', () => {
  test('equal those of another tokenizer on 10,000 random strings of all scripts', () => {
    const oracle = oracleFor(vocabulary);
    const random = randomFrom(20261123);
    let numTokens = 0;
    for (let i = 0; i < 10_000; i++) {
      const text = randomOracleText(random, 14);
      const ids = [...tokenizer.encode(text)];
      const expected = oracle.encode(text, { add_special_tokens: false }).ids;
      if (ids.join() !== expected.join()) expect({ text: JSON.stringify(text), ids }).toEqual({ text, ids: expected });
      numTokens += ids.length;
    }
    expect(numTokens).toBeGreaterThan(300_000);
  });

  test("equal llama.cpp's golden ids", () => {
    const golden = JSON.parse(readFileSync(new URL('../../vectors/text/llama-ids.json', import.meta.url), 'utf8'));
    expect(golden.vocabularySize).toBe(vocabulary.tokens.length);
    expect(golden.strings.length).toBe(250);
    for (const [index, text] of golden.strings.entries())
      expect([...tokenizer.encode(text)]).toEqual(golden.ids[index]);
  });

  test('of long pieces (heap) equal those of short ones (scan) and of the other tokenizer', () => {
    const oracle = oracleFor(vocabulary);
    const random = randomFrom(7);
    for (let i = 0; i < 200; i++) {
      let word = '';
      const length = 30 + Math.floor(random() * 200);
      for (let j = 0; j < length; j++) word += 'etaoinshrdlu'[Math.floor(random() * 12)];
      expect([...tokenizer.encode(word)]).toEqual(oracle.encode(word, { add_special_tokens: false }).ids);
    }
  });

  test('do not depend on what was tokenised before, nor on a cache that overflows', () => {
    const fresh = new Tokenizer(vocabulary);
    const random = randomFrom(3);
    const words = Array.from(
      { length: 90_000 },
      (_, i) => ` ${Math.floor(random() * 1e9).toString(36)}${i.toString(36)}`,
    );
    const whole = tokenizer.encode(words.join(''));
    const wholeAgain = tokenizer.encode(words.join(''));
    expect(wholeAgain).toEqual(whole);
    for (const word of words.slice(-500)) expect(fresh.encode(word)).toEqual(tokenizer.encode(word));
  });
});

describe('pieces', () => {
  test.each([
    ['Hello world', ['Hello', ' world']],
    ['12345', ['123', '45']],
    ['a1234b', ['a', '123', '4', 'b']],
    ['x  y', ['x', ' ', ' y']],
    ['x   ', ['x', '   ']],
    ['a \n\n  b', ['a', ' \n\n', ' ', ' b']],
    ['"word" (x)', ['"word', '"', ' (', 'x', ')']],
    ["it's", ['it', "'s"]],
    ["'été", ["'", 'été']],
    ['$100', ['$', '100']],
    ['漢字とカナtext', ['漢字とカナ', 'text']],
    ['a漢b', ['a', '漢', 'b']],
    ['a 1', ['a', ' ', '1']],
    ['!!\r\n\r\nx', ['!!\r\n\r\n', 'x']],
    ['e\u0301\u0301', ['e\u0301\u0301']],
    ['\u0000\u0001\u0002a', ['\u0000\u0001', '\u0002a']],
    ['\u0085x\ufeffy', ['\u0085x', '\ufeffy']],
    [' \u0000', [' ', '\u0000']],
    ['٣٤٥٦', ['٣٤٥', '٦']],
    ['👍🏽 ok', ['👍🏽', ' ok']],
    // A letter since Unicode 16: nothing in particular in 15.1.
    ['a\u1c89b', ['a', '\u1c89b']],
  ])('of %j', (text, expected) => {
    expect(piecesOf(text)).toEqual(expected);
  });

  test('cover any well-formed text without gap or overlap', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (text) => {
        expect(piecesOf(text).join('')).toBe(text);
      }),
    );
  });
});

describe('round trip', () => {
  test('gives back the exact bytes of any string; lone surrogates become U+FFFD', () => {
    const units = fc.array(fc.integer({ min: 0, max: 0xffff })).map((codes) => String.fromCharCode(...codes));
    fc.assert(
      fc.property(fc.oneof(units, fc.string({ unit: 'binary' })), (text) => {
        const { bytes } = tokenizer.decode(tokenizer.encode(text));
        expect(bytes).toEqual(utf8(text));
      }),
      { numRuns: 2000 },
    );
  });

  test('keeps a byte order mark', () => {
    expect(tokenizer.decode(tokenizer.encode('\ufeffa\ufeff')).text).toBe('\ufeffa\ufeff');
  });

  test('survives a hundred thousand spaces, twenty thousand equal letters and a megabyte of one letter', () => {
    for (const text of [' '.repeat(100_000), 'e'.repeat(20_000), 'a'.repeat(1_000_000), '\n'.repeat(100_000)]) {
      expect(tokenizer.decode(tokenizer.encode(text)).text).toBe(text);
    }
  });
});

describe('special tokens', () => {
  test('never come out of text, whatever it says', () => {
    const hostile = fc
      .array(fc.oneof(fc.constantFrom(...V4_SPECIAL_TOKENS), fc.string(), fc.constantFrom('<', '｜', '>', '▁')))
      .map((parts) => parts.join(''));
    fc.assert(
      fc.property(hostile, (text) => {
        const ids = tokenizer.encode(text);
        expect(ids.some((id) => tokenizer.isSpecial(id))).toBe(false);
        expect(tokenizer.decode(ids).text).toBe(text.replace(/\p{Surrogate}/gu, '\ufffd'));
      }),
      { numRuns: 1000 },
    );
  });

  test('are read where the caller asks, as the other tokenizer reads them', () => {
    const oracle = oracleFor(vocabulary);
    for (const text of ['<｜User｜>hi<｜Assistant｜></think>', '<think><think >x</think', 'a｜DSML｜b｜｜DSML｜｜']) {
      const ids = tokenizer.encode(text, { parseSpecial: true });
      expect([...ids]).toEqual(oracle.encode(text, { add_special_tokens: false }).ids);
      expect(ids.some((id) => tokenizer.isSpecial(id))).toBe(true);
      expect(tokenizer.decode(ids, { showSpecial: true }).text).toBe(text);
    }
  });

  test('are found longest first, in texts full of their beginnings, and among thousands', () => {
    const added = ['<', '<a', '<ab', '<abc>', 'b<', ...Array.from({ length: 5000 }, (_, i) => `<${i}>`)];
    const tokens = [...vocabulary.tokens, ...added];
    const tokenTypes = [...Array.from(vocabulary.tokenTypes), ...added.map(() => TokenType.CONTROL)];
    const other = new Tokenizer({ ...vocabulary, tokens, tokenTypes });
    const parts = other.splitSpecial('z<abc<abc><ab<4999>b<a');
    expect(parts.map(({ text }) => text)).toEqual(['z', '<ab', 'c', '<abc>', '<ab', '<4999>', 'b<', 'a']);
    for (const { text, specialId } of parts) expect(specialId).toBe(other.specialId(text) ?? null);
    expect(other.encode('<'.repeat(50_000), { parseSpecial: true }).length).toBe(50_000);
  });

  test('are hidden by decode unless shown', () => {
    const ids = tokenizer.encode('<｜User｜>hi', { parseSpecial: true, addBos: true });
    expect(tokenizer.decode(ids).text).toBe('hi');
    expect(tokenizer.decode(ids).bytes).toEqual(utf8('hi'));
    expect(tokenizer.decode(ids, { showSpecial: true }).text).toBe(`${SpecialToken.BOS}<｜User｜>hi`);
  });
});

describe('limits', () => {
  test('maxTokens stops early and leaves more than that many', () => {
    const text = 'one two three '.repeat(10_000);
    const ids = tokenizer.encode(text, { maxTokens: 100 });
    expect(ids.length).toBeGreaterThan(100);
    expect(ids.length).toBeLessThan(110);
    expect(tokenizer.encode('one two', { maxTokens: 2 })).toEqual(tokenizer.encode('one two'));
  });

  test('isCancelled stops', () => {
    const ids = tokenizer.encode('one two three '.repeat(100_000), { isCancelled: () => true });
    expect(ids.length).toBeLessThan(20_000);
    // One piece, and no look between pieces: the merging itself stops, far from its end.
    const letters = 'the'.repeat(100_000);
    const cut = tokenizer.encode(letters, { isCancelled: () => true });
    expect(cut.length).toBeGreaterThan(tokenizer.encode(letters).length + 1000);
  });

  test('maxTokens looks at no more text than it takes, and always finds too many', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: 'binary', minLength: 1, maxLength: 50 }),
        fc.integer({ min: 0, max: 60 }),
        (unit, maxTokens) => {
          const text = unit.repeat(200);
          const whole = tokenizer.encode(text);
          const some = tokenizer.encode(text, { maxTokens });
          if (whole.length > maxTokens) expect(some.length).toBeGreaterThan(maxTokens);
          else expect(some).toEqual(whole);
        },
      ),
    );
  });

  test('tokenBytes refuses what is no id, and ids beyond the last token have no text', () => {
    for (const id of [-1, 1.5, Number.NaN]) expect(() => tokenizer.tokenBytes(id)).toThrow(RangeError);
    const beyond = [tokenizer.numTokens, tokenizer.numTokens + 100];
    for (const id of beyond) expect(tokenizer.tokenBytes(id)).toHaveLength(0);
    expect(tokenizer.decode(beyond, { showSpecial: true }).text).toBe('');
    expect(new Detokenizer(tokenizer).push(tokenizer.numTokens)).toBe('');
  });
});

describe('a vocabulary is refused by the name of its key when', () => {
  const refusal = (change: Partial<typeof vocabulary>): string => {
    try {
      new Tokenizer({ ...vocabulary, ...change });
    } catch (error) {
      if (error instanceof VocabularyError) return error.message;
      throw error;
    }
    return 'accepted';
  };
  const tokensWithout = (token: string): string[] => vocabulary.tokens.map((t) => (t === token ? 'Ġzzz' : t));

  test('ids of an embedding with more rows than tokens stand for nothing', () => {
    expect(tokenizer.tokenBytes(tokenizer.numTokens + 7)).toEqual(new Uint8Array(0));
    const ids = [...tokenizer.encode('a'), tokenizer.numTokens, ...tokenizer.encode('b')];
    expect(tokenizer.decode(ids, { showSpecial: true }).text).toBe('ab');
    expect(tokenizer.isSpecial(tokenizer.numTokens)).toBe(true);
  });

  test.each([
    ['its pre-tokenizer is unknown', { pre: 'llama-bpe' }, 'tokenizer.ggml.pre: "llama-bpe" is not known'],
    ['it has no tokens', { tokens: [], tokenTypes: [] }, 'tokenizer.ggml.tokens: is empty'],
    ['types are missing', { tokenTypes: [1, 1] }, 'tokenizer.ggml.token_type: has 2 entries for 8192 tokens'],
    ['bos is outside', { bosId: 9000 }, 'tokenizer.ggml.bos_token_id: 9000 is not one of the 8192 tokens'],
    ['eos is no id', { eosId: -1 }, 'tokenizer.ggml.eos_token_id: -1 is not one'],
    [
      'a byte is missing',
      { tokens: tokensWithout('ÿ') },
      'tokenizer.ggml.tokens: no token stands for the single byte 0xff',
    ],
    ['it has no merges', { merges: [] }, 'tokenizer.ggml.merges: is empty'],
    ['a merge has no second half', { merges: ['a '] }, 'tokenizer.ggml.merges[0]: "a " is not "left right"'],
    ['a merge has one word', { merges: ['e r', 'er'] }, 'tokenizer.ggml.merges[1]: "er" is not "left right"'],
    ['a merge leads nowhere', { merges: ['q q'] }, 'tokenizer.ggml.merges[0]: "qq" is not an ordinary token'],
  ])('%s', (_, change, message) => {
    expect(refusal(change)).toContain(message);
  });

  test('a merge would make a special token', () => {
    const tokens = [...vocabulary.tokens, 'qq'];
    const tokenTypes = [...Array.from(vocabulary.tokenTypes), TokenType.CONTROL];
    expect(refusal({ tokens, tokenTypes, merges: ['q q'] })).toContain('tokenizer.ggml.merges[0]: "qq"');
  });
});
