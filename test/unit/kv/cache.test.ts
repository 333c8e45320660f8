// Stories of the prompt cache from the request's side: what hits and from where, which slots are shared, why it misses. The
// engine, the runner's rules and the disk are those of test/fakes/cached-engine.ts, which looks at every row that is used.
// Prompts are written as letters, a block of 128 tokens each.

import { expect, test } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import { POINT_MODES } from '../../../src/kv/points.js';
import type { CacheEvent } from '../../../src/kv/types.js';
import { type Asked, answerOf, CachedEngine, hitsOf, prompt, useOf } from '../../fakes/cached-engine.js';
import type { FakeStore } from '../../fakes/fake-store.js';
import { useCache } from '../../fakes/requests.js';

/** What an engine without a cache answers. */
async function alone(tokens: readonly number[]): Promise<number[]> {
  const e = new CachedEngine({ keptBlocks: 0, disk: null });
  return answerOf(await e.ask(tokens, { cache: { ...useCache, read: false, write: false } }));
}

test('a prompt that comes again is hit from memory, and its answer is the same', async () => {
  const e = new CachedEngine();
  const first = await e.ask(prompt('abc'));
  expect(hitsOf(first)).toEqual([0, 0, 0, 'new']);
  expect(useOf(first).writeTokens).toBe(3 * 128);
  e.checkIdle();
  const second = await e.ask(prompt('abc'));
  expect(hitsOf(second)).toEqual([0, 384, 0, 'none']);
  expect(answerOf(second)).toEqual(answerOf(first));
  expect(e.placements.map(({ slots }) => slots)).toEqual([
    [0, 1, 2, 3],
    [0, 1, 2, 3],
  ]);
  e.checkIdle();
});

test('taking slots does not evict the point from which the request is to start', async () => {
  // Nothing is free: what is kept are the blocks of `ab` with their point, and those of `xyz`.
  const e = new CachedEngine({ numSlots: 8, disk: null });
  await e.ask(prompt('ab'));
  const first = await e.ask(prompt('xyz'));
  const wide = await e.ask(prompt('abcdefg'));
  expect(hitsOf(wide)).toEqual([0, 256, 0, 'diverged']);
  expect(hitsOf(first)).toEqual([0, 0, 0, 'new']);
  e.checkIdle();
});

test('a request that waits for slots takes none meanwhile, and disturbs nothing that is kept', async () => {
  const e = new CachedEngine({ numSlots: 6 });
  await e.ask(prompt('ab'));
  const running = e.start(prompt('xyz'), { stop: { maxTokens: 60 } });
  const waiting = e.start(prompt('abcde'));
  for (let round = 0; round < 5; round++) await e.round(); // xyz is computed
  const before = e.cache.ram.stats;
  const moved: CacheEvent[] = [];
  const { sequence } = e.watch((events) => moved.push(...events));
  for (let round = 0; round < 10; round++) await e.round();
  expect(waiting.events).toEqual([]);
  expect(e.cache.ram.stats).toEqual(before);
  expect(moved).toEqual([]);
  expect(sequence()).toBeGreaterThan(0);
  await e.finish([running, waiting]);
  expect(hitsOf(waiting)[1]).toBe(256);
});

test('a second request shares the blocks of one that runs, without a copy', async () => {
  const e = new CachedEngine();
  const first = e.start(prompt('abc'), { stop: { maxTokens: 40 } });
  await e.until(() => answerOf(first).length > 5);
  const second = e.start(prompt('abd'));
  await e.finish([first, second]);
  expect(hitsOf(second)).toEqual([0, 0, 0, 'no-point']); // the first to branch there takes a point
  expect(e.placements[1]?.points).toEqual([256, 384]);
  const third = e.start(prompt('abe'), { stop: { maxTokens: 40 } });
  await e.until(() => answerOf(third).length > 5);
  const fourth = e.start(prompt('abe'));
  await e.finish([third, fourth]);
  expect(hitsOf(third)).toEqual([0, 256, 0, 'diverged']);
  expect(hitsOf(fourth)).toEqual([384, 0, 0, 'none']);
  expect(e.placements[3]?.slots.slice(0, 3)).toEqual(e.placements[2]?.slots.slice(0, 3));
  await e.settle();
  e.checkIdle();
});

test('an exact end is continued where it ends, not at a multiple of 128', async () => {
  const e = new CachedEngine();
  const first = await e.ask(prompt('ab', 30), { stop: { maxTokens: 10 } });
  const conversation = [...prompt('ab', 30), ...answerOf(first), 9, 9, 9];
  const second = await e.ask(conversation);
  // The last token's row is not computed before the next step, and there was none.
  expect(hitsOf(second)).toEqual([0, 256 + 30 + 9, 0, 'none']);
  expect(answerOf(second)).toEqual(await alone(conversation));
  const other = await e.ask([...prompt('ab', 30), ...answerOf(first).slice(0, 8), 1]);
  expect(hitsOf(other)).toEqual([0, 256, 0, 'none']);
  e.checkIdle();
});

test('an answer that fills blocks of its own is hit by the turn after it', async () => {
  const e = new CachedEngine({ keptBlocks: 0 });
  const first = await e.ask(prompt('a', 100), { stop: { maxTokens: 200 } });
  const conversation = [...prompt('a', 100), ...answerOf(first), 9];
  const second = await e.ask(conversation);
  expect(hitsOf(second)).toEqual([0, 0, 384, 'none']);
  expect(answerOf(second)).toEqual(await alone(conversation));
});

test('with no RAM to keep anything every hit comes from the disk', async () => {
  const e = new CachedEngine({ keptBlocks: 0 });
  const first = await e.ask(prompt('abc'));
  expect(e.cache.ram.stats).toMatchObject({ namedBlocks: 0, keptBytes: 0, pointBytes: 0 });
  expect(e.memory.numPoints).toBe(0);
  const second = await e.ask(prompt('abc'));
  expect(hitsOf(second)).toEqual([0, 0, 384, 'none']);
  expect(answerOf(second)).toEqual(answerOf(first));
  expect(useOf(second)).toMatchObject({ writeTokens: 0, kvBytesRead: 3000 + 4000 });
  expect(e.store?.writtenIds).toEqual([1, 2]); // blocks, point
  expect(e.store?.readIds).toEqual([1, 2]);
  e.checkIdle();
});

test('without a disk and without RAM to keep anything nothing is hit', async () => {
  const e = new CachedEngine({ keptBlocks: 0, disk: null });
  await e.ask(prompt('ab'));
  expect(hitsOf(await e.ask(prompt('ab')))).toEqual([0, 0, 0, 'new']);
  expect(useOf(await e.ask(prompt('ab'))).prefixId).toBeNull();
  e.checkIdle();
});

test.each(['close', 'crash'] as const)('after a %s the next process hits what was durable', async (how) => {
  const e = new CachedEngine();
  const first = await e.ask(prompt('abcd'));
  await e.engine.close();
  const again = e.restarted(how);
  const second = await again.ask(prompt('abcd'));
  expect(hitsOf(second)).toEqual([0, 0, 512, 'none']);
  expect(answerOf(second)).toEqual(answerOf(first));
  again.checkIdle();
});

test('64 at once: the prefix is computed once, written once, read once', async () => {
  const e = new CachedEngine({ maxRunning: 64, numSlots: 300, keptBlocks: 0 });
  const ask = () => Array.from({ length: 64 }, (_, index) => e.start([...prompt('abcdefgh', 0), index + 1]));
  const all = ask();
  await e.finish(all);
  await e.settle();
  expect(hitsOf(all[0] as Asked)).toEqual([0, 0, 0, 'new']);
  for (const twin of all.slice(1)) expect(hitsOf(twin)).toEqual([1024, 0, 0, 'none']);
  expect(e.runner.stats().prefillTokens).toBe(1024 + 64);
  expect(e.store?.writtenIds).toEqual([1, 2]);
  expect(e.cache.ram.stats.namedBlocks).toBe(0);

  const again = ask();
  await e.finish(again);
  expect(hitsOf(again[0] as Asked)).toEqual([0, 0, 1024, 'none']);
  for (const twin of again.slice(1)) expect(hitsOf(twin)).toEqual([1024, 0, 0, 'none']);
  expect(e.store?.readIds).toEqual([1, 2]);
  expect(again.map((asked) => answerOf(asked))).toEqual(all.map((asked) => answerOf(asked)));
  await e.settle();
  e.checkIdle();
});

test('a twin whose first is cancelled goes on by itself, from what the first has computed', async () => {
  const e = new CachedEngine({ mode: 'full' });
  const long = prompt('abcdefghijkl');
  const first = e.start(long);
  const twin = e.start(long);
  await e.until(() => e.runner.stats().prefillTokens >= 512);
  expect(e.placements.length).toBe(1);
  first.abort(new Failure('CANCELLED_BY_CALLER', 'gone'));
  await e.finish([first, twin]);
  expect(answerOf(twin)).toEqual(await alone(long));
  expect(useOf(twin).hitLiveTokens).toBeGreaterThanOrEqual(512);
  await e.settle();
  e.checkIdle();
});

test('a twin whose first fails is not held up by it', async () => {
  const probe = new CachedEngine();
  const poisonToken = answerOf(await probe.ask(prompt('ab', 5)))[0] as number;
  const e = new CachedEngine({ poisonToken });
  const first = e.start(prompt('ab', 5));
  const twin = e.start(prompt('ab', 7));
  await e.finish([first, twin]);
  expect(first.events.at(-1)).toMatchObject({ t: 'failed', failure: { reason: 'ENGINE_FAILURE' } });
  expect(hitsOf(twin)).toEqual([256, 0, 0, 'none']);
  await e.settle();
  e.checkIdle();
});

test('where two prompts part the second takes a point, and the third hits it', async () => {
  const e = new CachedEngine({ keptBlocks: 0 });
  await e.ask(prompt('abcde'));
  const second = await e.ask(prompt('abcxy'));
  expect(useOf(second).miss).toEqual({ reason: 'no-point', tokenPosition: 0, nearestCachedTokens: 384 });
  expect(hitsOf(await e.ask(prompt('abczz')))).toEqual([0, 0, 384, 'diverged']);
});

test.each(POINT_MODES)('mode %s: the same prompt again is hit as far as the mode can', async (mode) => {
  const e = new CachedEngine({ mode, keptBlocks: 0, replayTokens: 256 });
  const first = await e.ask(prompt('abcdefgh'), { cache: { ...useCache, boundaries: [300] } });
  const points = { full: [128, 256, 384, 512, 640, 768, 896, 1024], periodic: [256, 1024], ends: [256, 1024], replay: [] };
  expect(e.placements[0]?.points).toEqual(points[mode]);
  const second = await e.ask(prompt('abcdefgh'));
  expect(hitsOf(second)).toEqual([0, 0, mode === 'replay' ? 768 : 1024, mode === 'replay' ? 'no-point' : 'none']);
  expect(e.placements[1]?.frozenTokens).toBe(mode === 'replay' ? 1024 : 0);
  expect(answerOf(second)).toEqual(answerOf(first));
  e.checkIdle();
});

test('every reason for a miss', async () => {
  const miss = async (e: CachedEngine, letters: string, changes = {}) => useOf(await e.ask(prompt(letters), changes)).miss;
  const e = new CachedEngine({ keptBlocks: 0 });
  expect(await miss(e, '')).toMatchObject({ reason: 'short', tokenPosition: 0 });
  expect(await miss(e, 'ab')).toMatchObject({ reason: 'new', tokenPosition: 0 });
  expect(await miss(e, 'ab')).toMatchObject({ reason: 'none', tokenPosition: 256 });
  expect(await miss(e, 'abc')).toMatchObject({ reason: 'diverged', tokenPosition: 256 });
  expect(await miss(e, 'abc', { cache: { ...useCache, read: false } })).toMatchObject({ reason: 'bypassed' });
  expect(await miss(e, 'ax')).toMatchObject({ reason: 'no-point', tokenPosition: 0, nearestCachedTokens: 128 });
  expect(await miss(e, 'ab', { cache: { ...useCache, scope: 'other' } })).toMatchObject({
    reason: 'scope',
    nearestCachedTokens: 256,
  });
  e.store?.failNext('corrupt', 2);
  const corrupt = await e.ask(prompt('abc'));
  expect(useOf(corrupt).miss).toMatchObject({ reason: 'corrupt' });
  const other = e.restarted('close', { weights: 2 });
  expect(await miss(other, 'ab', { cache: { ...useCache, write: false } })).toMatchObject({
    reason: 'fingerprint',
    nearestCachedTokens: 256,
  });
  const recovering = other.restarted('close', { weights: 1, isRecovered: false });
  const early = recovering.start(prompt('q'));
  recovering.runner.onWake();
  await recovering.finish([early]);
  expect(hitsOf(early)[3]).toBe('recovering');

  const ill = new CachedEngine({ keptBlocks: 0 });
  (ill.store as FakeStore).health = 'io-error';
  await ill.ask(prompt('ab'));
  (ill.store as FakeStore).health = 'ok';
  expect(await miss(ill, 'ab')).toMatchObject({ reason: 'not-stored', tokenPosition: 0 });
  expect(await miss(ill, 'ab')).toMatchObject({ reason: 'none' });
  ill.store?.failNext('read-error', 6);
  for (let times = 0; times < 3; times++) await ill.ask(prompt('ab'));
  expect(await miss(ill, 'ab')).toMatchObject({ reason: 'unavailable', nearestCachedTokens: 256 });
  expect(ill.problems.at(-1)).toContain('the disk is not used for another 5 s');
  ill.nowMs += 6000;
  expect(await miss(ill, 'ab')).toMatchObject({ reason: 'none' });
  expect(ill.problems.at(-1)).toBe('');

  const full = new CachedEngine({ keptBlocks: 0, disk: { regionBytes: 16_384, regions: 4 } });
  for (const letters of ['ab', 'cd', 'ef', 'gh', 'ij']) await full.ask(prompt(letters));
  expect(await miss(full, 'ab')).toMatchObject({ reason: 'evicted', tokenPosition: 0 });
});
