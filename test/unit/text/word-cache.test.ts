// What the cache of merged words gives back, in the worst case too: words chosen to collide.

import { expect, test } from 'vitest';
import { hashWord, NUM_SLOTS, PROBES_MAX, WordCache } from '../../../src/text/word-cache.js';
import { randomFrom } from './fixtures.js';

const random = randomFrom(1);
const text = Array.from({ length: 1 << 20 }, () => String.fromCharCode(0x4e00 + Math.floor(random() * 0x5000))).join(
  '',
);
const out = new Uint32Array(8);

const idsOf = (word: string): Int32Array =>
  Int32Array.from({ length: 1 + (word.length % 3) }, (_, i) => word.charCodeAt(i));

/** Whether the word is known; then its ids are right. */
function isKnown(cache: WordCache, word: string): boolean {
  const entry = cache.find(word, 0, word.length);
  if (entry === 0) return false;
  const numIds = cache.copyIds(entry, out, 0);
  const isRight = numIds === cache.numIds(entry) && idsOf(word).join() === out.subarray(0, numIds).join();
  if (!isRight) throw new Error(`"${word}" has the ids of another word`);
  return true;
}

function learn(cache: WordCache, word: string): void {
  if (isKnown(cache, word)) return;
  const ids = idsOf(word);
  cache.add(word, 0, word.length, ids, ids.length);
}

/** Words that a cache of this seed looks for from one slot on, which is near the end of the table. */
function collidingWords(seed: number, count: number): string[] {
  const words: string[] = [];
  for (let length = 3; words.length < count; length++) {
    for (let start = 0; start + length <= text.length && words.length < count; start++) {
      const slot = hashWord(text, start, start + length, seed) & (NUM_SLOTS - 1);
      if (slot === NUM_SLOTS - 3) words.push(text.slice(start, start + length));
    }
  }
  return words;
}
const colliding = collidingWords(7, PROBES_MAX + 8);

test('words that collide fill the slots that are searched and no more; the others stay unknown', () => {
  const cache = new WordCache(7);
  for (const word of colliding) learn(cache, word);
  expect(colliding.map((word) => isKnown(cache, word))).toEqual(colliding.map((_, index) => index < PROBES_MAX));
});

test('which words collide depends on the seed, and each cache has its own', () => {
  for (const cache of [new WordCache(8), new WordCache()]) {
    for (const word of colliding) learn(cache, word);
    expect(colliding.filter((word) => !isKnown(cache, word))).toEqual([]);
  }
});

test('nearly all words find a place until the cache is full; then it begins anew', () => {
  const cache = new WordCache(7);
  const words = Array.from({ length: NUM_SLOTS / 2 - 1 }, (_, index) => text.slice(index * 4, index * 4 + 4));
  for (const word of words) learn(cache, word);
  const known = words.filter((word) => isKnown(cache, word));
  expect(known.length).toBeGreaterThan(words.length * 0.99);
  let last = '';
  for (let at = words.length * 4; isKnown(cache, known[0] as string); at += 4) {
    last = text.slice(at, at + 4);
    learn(cache, last);
  }
  expect(known.some((word) => isKnown(cache, word))).toBe(false);
  expect(isKnown(cache, last)).toBe(true);
});
