// Usage from what the engine says: the sums that usage.proto promises for any split over tiers, and costs that stay exact where
// a JavaScript number would not.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Answer } from '../../../src/api/answer.js';
import { messageAt, type Prompt } from '../../../src/api/prompt.js';
import { cacheFactsOf, pricesOf, timingsOf, usageOf } from '../../../src/api/usage.js';
import { DEFAULT_PRICES, type PriceList } from '../../../src/base/prices.js';
import type { CacheUse } from '../../../src/kv/types.js';

const prompt: Prompt = { tokens: new Uint32Array(1), startsInReasoning: false, chat: null };

function answer(use: Partial<CacheUse> | null, completionTokens = 0, more: Partial<Answer> = {}): Answer {
  const whole: CacheUse | null = use && {
    ...{ promptTokens: 0, hitLiveTokens: 0, hitMemoryTokens: 0, hitDiskTokens: 0, restoreBytes: 0 },
    miss: { reason: 'none', tokenPosition: 0, nearestCachedTokens: 0 },
    ...{ writeTokens: 0, prefixId: null, restoreMs: 0, kvBytesRead: 0 },
    ...use,
  };
  return { use: whole, cover: null, prompt, completionTokens, reasoningTokens: 0, ...more } as Answer;
}

const count = fc.nat(2 ** 31);

test('whatever the split, the sums hold and every token is paid once', () => {
  fc.assert(
    fc.property(count, count, count, count, count, (live, memory, disk, miss, output) => {
      const use = { hitLiveTokens: live, hitMemoryTokens: memory, hitDiskTokens: disk };
      const usage = usageOf(answer({ ...use, promptTokens: live + memory + disk + miss }, output), 0, DEFAULT_PRICES);
      expect(usage.promptTokens).toBe((usage.promptCacheHitTokens ?? 0) + (usage.promptCacheMissTokens ?? 0));
      expect(usage.promptCacheHitTokens).toBe(live + memory + disk);
      expect(usage.promptCacheMissTokens).toBe(miss);
      expect(usage.totalTokens).toBe((usage.promptTokens ?? 0) + output);
      const picos = BigInt(live + memory + disk) * 25_000n + BigInt(miss) * 3_000_000n + BigInt(output) * 6_000_000n;
      expect(usage.cost?.amountPicos).toBe(String(picos));
    }),
  );
});

test('a cost beyond 2^53 keeps its last digit, and one beyond 63 bits is left out', () => {
  const list: PriceList = {
    ...{ name: 'dear', currency: 'USD' },
    classes: [{ name: 'x', hit: 0n, miss: 99_999_999_999n, output: 0n, hours: null }],
  };
  const costOf = (promptTokens: number) => usageOf(answer({ promptTokens }), 0, list).cost;
  expect(costOf(1_000_001)?.amountPicos).toBe('100000099998999999');
  expect(costOf(2 ** 31)).toBeUndefined();
  expect(pricesOf(list)[0]?.missPicos).toBe('99999999999');
});

test('the price is that of the time of acceptance', () => {
  const price = (name: string, hours: { begin: number; end: number }[] | null) => ({
    ...{ name, hit: 0n, miss: name === 'night' ? 1n : 2n, output: 0n, hours },
  });
  const list: PriceList = {
    name: 'x',
    currency: 'CNY',
    classes: [price('night', [{ begin: 0, end: 480 }]), price('day', null)],
  };
  const costAt = (clock: string) =>
    usageOf(answer({ promptTokens: 10 }), Date.parse(`2026-11-29T${clock}Z`), list).cost;
  expect(costAt('07:59:59')).toMatchObject({ amountPicos: '10', priceClass: 'night', priceList: 'x' });
  expect(costAt('08:00:00')).toMatchObject({ amountPicos: '20', priceClass: 'day' });
});

test('time spent restoring is not prefill, and never makes it negative', () => {
  const times = { acceptedMs: 100, admittedMs: 110, firstTokenMs: 160, endedMs: 200 };
  const of = (restoreMs: number) => timingsOf(answer({ restoreMs, kvBytesRead: 5 }, 1, { times }));
  expect(of(20)).toEqual({
    queue: { seconds: 0, nanos: 10e6 },
    restore: { seconds: 0, nanos: 20e6 },
    prefill: { seconds: 0, nanos: 30e6 },
    decode: { seconds: 0, nanos: 40e6 },
    timeToFirstToken: { seconds: 0, nanos: 60e6 },
    kvBytesRead: 5,
  });
  expect(of(80).prefill).toEqual({ seconds: 0, nanos: 0 });
});

test('the log says what happened, else what was planned, else how long the prompt is', () => {
  const planned = answer({ promptTokens: 300, hitDiskTokens: 256 }).use;
  expect(cacheFactsOf(answer({ promptTokens: 300, writeTokens: 128 }))).toMatchObject({
    hit_tokens: 0,
    write_tokens: 128,
  });
  expect(cacheFactsOf(answer(null, 0, { cover: planned }))).toEqual({
    ...{ prompt_tokens: 300, hit_tokens: 256, hit_live_tokens: 0, hit_memory_tokens: 0, hit_disk_tokens: 256 },
    ...{ miss_tokens: 44, miss: 'none' },
  });
  expect(cacheFactsOf(answer(null))).toEqual({ prompt_tokens: 1 });
});

test('a position is in the message that ends behind it', () => {
  const chat = (setupEnd: number, ...ends: number[]): Prompt => ({
    ...prompt,
    chat: { setupEnd, messageEnds: Uint32Array.from(ends) },
  });
  const withSystem = chat(10, 10, 25, 40);
  expect([0, 9, 10, 24, 25, 39, 40, 41].map((at) => messageAt(at, withSystem))).toEqual([0, 0, 1, 1, 2, 2, null, null]);
  const toolsOnly = chat(10, 25);
  expect([0, 9, 10, 24, 25].map((at) => messageAt(at, toolsOnly))).toEqual([null, null, 0, 0, null]);
  // Tool results in the order of their calls, the second message before the first.
  const reordered = chat(10, 10, 40, 25, 60);
  expect([9, 10, 24, 25, 39, 40, 59, 60].map((at) => messageAt(at, reordered))).toEqual([0, 2, 2, 1, 1, 3, 3, null]);
  // A message that is left out ends where the one before it does.
  expect([9, 10, 24, 25].map((at) => messageAt(at, chat(10, 10, 25, 25)))).toEqual([0, 1, 1, null]);
  expect(messageAt(0, prompt)).toBeNull();
});
