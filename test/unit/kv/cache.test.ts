// Stories of the prompt cache from the request's side: what hits and from where, which slots are shared, why it misses. The
// engine, the runner's rules and the disk are those of test/fakes/cached-engine.ts, which looks at every row that is used.
// Prompts are written as letters, a block of 128 tokens each.

import { expect, test } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import { POINT_MODES } from '../../../src/kv/points.js';
import type { CacheEvent } from '../../../src/kv/types.js';
import { type Asked, answerOf, CachedEngine, hitsOf, isOver, prompt, useOf } from '../../fakes/cached-engine.js';
import type { FakeStore } from '../../fakes/fake-store.js';
import { greedy, useCache } from '../../fakes/requests.js';

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
  const points = {
    full: [128, 256, 384, 512, 640, 768, 896, 1024],
    periodic: [256, 1024],
    ends: [256, 1024],
    replay: [],
  };
  expect(e.placements[0]?.points).toEqual(points[mode]);
  const second = await e.ask(prompt('abcdefgh'));
  expect(hitsOf(second)).toEqual([0, 0, mode === 'replay' ? 768 : 1024, mode === 'replay' ? 'no-point' : 'none']);
  expect(e.placements[1]?.frozenTokens).toBe(mode === 'replay' ? 1024 : 0);
  expect(answerOf(second)).toEqual(answerOf(first));
  e.checkIdle();
});

test('every reason for a miss', async () => {
  const miss = async (e: CachedEngine, letters: string, changes = {}) =>
    useOf(await e.ask(prompt(letters), changes)).miss;
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
  ill.store?.failNext('read-error', 2); // with the two failed writes enough to leave the disk alone
  await ill.ask(prompt('ab'));
  expect(await miss(ill, 'ab')).toMatchObject({ reason: 'unavailable', nearestCachedTokens: 256 });
  expect(ill.problems.at(-1)).toContain('the disk is not used for another 5 s');
  ill.nowMs += 6000;
  expect(await miss(ill, 'ab')).toMatchObject({ reason: 'none' });
  expect(ill.problems.at(-1)).toBe('');

  const full = new CachedEngine({ keptBlocks: 0, disk: { regionBytes: 16_384, regions: 4 } });
  for (const letters of ['ab', 'cd', 'ef', 'gh', 'ij']) await full.ask(prompt(letters));
  expect(await miss(full, 'ab')).toMatchObject({ reason: 'evicted', tokenPosition: 0 });
});

test('READ_ONLY hits and keeps nothing, BYPASS neither hits nor keeps', async () => {
  const e = new CachedEngine();
  await e.ask(prompt('ab'));
  const before = e.store?.writtenIds.length;
  const readOnly = await e.ask(prompt('abcd'), { cache: { ...useCache, write: false } });
  expect(hitsOf(readOnly)).toEqual([0, 256, 0, 'diverged']);
  expect(useOf(readOnly)).toMatchObject({ writeTokens: 0, prefixId: expect.stringMatching(/^[0-9a-f]{64}$/) });
  const bypass = await e.ask(prompt('ab'), { cache: { ...useCache, read: false, write: false } });
  expect(hitsOf(bypass)).toEqual([0, 0, 0, 'bypassed']);
  expect(useOf(bypass).prefixId).toBeNull();
  expect(e.store?.writtenIds.length).toBe(before);
  expect(hitsOf(await e.ask(prompt('abcd')))).toEqual([0, 256, 0, 'diverged']);
  e.checkIdle();
});

test('scopes do not see each other, in RAM or on the disk', async () => {
  for (const keptBlocks of [0, 100]) {
    const e = new CachedEngine({ keptBlocks });
    const inScope = (scope: string) => e.ask(prompt('ab', 9), { cache: { ...useCache, scope } });
    await inScope('a');
    expect(hitsOf(await inScope('b')).slice(0, 3)).toEqual([0, 0, 0]);
    expect(hitsOf(await inScope('')).slice(0, 3)).toEqual([0, 0, 0]);
    expect(hitsOf(await inScope('a'))[3]).toBe('none');
    e.checkIdle();
  }
});

test.each(['corrupt', 'read-error', 'not-found', 'deadline', 'cancelled'] as const)(
  'a restore that fails (%s): the answer is the same, computed',
  async (why) => {
    const e = new CachedEngine({ keptBlocks: 0 });
    const right = answerOf(await e.ask(prompt('abcd')));
    const store = e.store as FakeStore;
    if (why === 'corrupt' || why === 'read-error') store.failNext(why);
    if (why === 'not-found') for (const { id } of store.records()) store.destroy(-1, [id]);
    if (why === 'not-found') store.settle();
    if (why === 'deadline' || why === 'cancelled') store.hangs = true;
    const asked = e.start(prompt('abcd'));
    const twin = e.start(prompt('abcd'));
    await e.until(() => asked.events.some(({ t }) => t === 'restore'));
    if (why === 'cancelled') asked.abort(new Failure('CANCELLED_BY_CALLER', 'gone'));
    if (why === 'cancelled') await e.until(() => isOver(asked));
    if (why === 'cancelled') store.hangs = false;
    // The twin tries for itself when the first has given up.
    for (let tries = why === 'deadline' ? 2 : 0; tries > 0; tries--) {
      await new Promise((resolve) => setTimeout(resolve, 1100));
      for (let rounds = 0; rounds < 10; rounds++) await e.round();
    }
    await e.finish([asked, twin]);
    store.hangs = false;
    expect(answerOf(twin)).toEqual(right);
    if (why === 'cancelled') {
      expect(answerOf(asked)).toEqual([]);
      expect(hitsOf(twin)).toEqual([0, 0, 512, 'none']);
    } else {
      expect(answerOf(asked)).toEqual(right);
      expect(useOf(asked)).toMatchObject({ hitDiskTokens: 0, hitMemoryTokens: 0 });
    }
    await e.settle();
    expect(hitsOf(await e.ask(prompt('abcd'))).slice(0, 3)).toEqual([0, 0, 512]);
    e.checkIdle();
  },
);

test('what waits to be written is bounded: beyond it prompts are answered and not stored', async () => {
  const e = new CachedEngine({
    numSlots: 300,
    keptBlocks: 0,
    writeBudgetBytes: 0,
    disk: { regionBytes: 1 << 30 },
    blockBytes: 2 ** 26,
  });
  const store = e.store as FakeStore;
  store.hangs = true;
  const stored = e.start(prompt('abc')); // 192 MiB
  await e.finish([stored]);
  const refused = e.start(prompt('xyz'));
  await e.finish([refused]);
  expect(useOf(stored).writeTokens).toBe(384);
  expect(useOf(refused)).toMatchObject({ writeTokens: 0 });
  expect(e.cache.ram.stats.heldBlocks).toBe(3); // until they are written
  store.hangs = false;
  await e.settle();
  expect(store.records().map(({ kind, toToken }) => [kind, toToken])).toEqual([
    ['segment', 384],
    ['point', 384],
  ]);
  e.checkIdle();
});

test('a disk that is full makes room and takes what waited', async () => {
  const e = new CachedEngine({ keptBlocks: 0, disk: { regionBytes: 16_384, regions: 4 } });
  for (const letters of ['ab', 'cd', 'ef', 'gh', 'ij', 'kl'])
    expect(useOf(await e.ask(prompt(letters))).writeTokens).toBe(256);
  expect(hitsOf(await e.ask(prompt('kl')))).toEqual([0, 0, 256, 'none']);
  expect(e.cache.stats().tiers[2]?.evictions).toBeGreaterThan(0);
  e.checkIdle();
});

test('a disk that is full and cannot make room is left alone', async () => {
  const e = new CachedEngine({
    keptBlocks: 0,
    disk: { regionBytes: 16_384, regions: 4, faults: { 'reclaim-error': 1 } },
  });
  for (const letters of ['ab', 'cd', 'ef', 'gh', 'ij', 'kl']) await e.ask(prompt(letters));
  await e.settle();
  e.checkIdle();
});

test.each(['scope', 'prefix', 'all', 'unused'] as const)(
  'purge of %s: gone from RAM and disk, also after a restart',
  async (what) => {
    for (const keptBlocks of [0, 100]) {
      const e = new CachedEngine({ keptBlocks });
      const inScope = (scope: string, letters: string) => e.ask(prompt(letters, 20), { cache: { ...useCache, scope } });
      await inScope('a', 'pqr');
      const prefixId = useOf(await inScope('a', 'pq')).prefixId as string;
      await inScope('a', '');
      e.nowMs += 1000;
      await inScope('b', 'pqr');
      await inScope('a', 'xyz');
      const selector = {
        scope: { scope: 'a' },
        prefix: { scope: 'a', prefixId },
        all: {},
        unused: { unusedSinceMs: e.nowMs },
      }[what];
      const isLeft = {
        scope: [false, true, false],
        prefix: [false, true, true],
        all: [false, false, false],
        unused: [false, true, true],
      }[what];
      const wouldBe = await e.purge({ ...selector, dryRun: true });
      const was = await e.purge(selector);
      expect(was).toEqual(wouldBe);
      expect(was?.blocks).toBe({ scope: 6, prefix: 3, all: 9, unused: 3 }[what]); // a record goes whole
      const again = e.restarted('crash');
      for (const one of [e, again]) {
        const hits = async (scope: string, letters: string) =>
          one.cache.probe(Uint32Array.from(prompt(letters, 20)), scope);
        const hitAny = async (scope: string, letters: string) => {
          const { hitMemoryTokens, hitDiskTokens } = await hits(scope, letters);
          return hitMemoryTokens + hitDiskTokens >= 384;
        };
        expect([await hitAny('a', 'pqr'), await hitAny('b', 'pqr'), await hitAny('a', 'xyz')]).toEqual(isLeft);
      }
      if (what === 'all') {
        expect(e.memory.numPoints).toBe(0);
        expect(e.cache.ram.stats).toMatchObject({ namedBlocks: 0, keptBytes: 0 });
        expect(e.store?.records()).toEqual([]);
      }
      e.checkIdle();
    }
  },
);

test.each(['computing', 'writing', 'restoring'] as const)(
  'a purge while requests are %s: what runs ends right and brings nothing back',
  async (when) => {
    const e = new CachedEngine({ mode: 'full' });
    const right = await alone(prompt('abcdefgh'));
    const store = e.store as FakeStore;
    if (when === 'restoring') {
      await e.ask(prompt('abcdefgh'));
      e.cache.ram.forget(
        [...e.cache.ram.blocks()].map(({ key }) => key),
        [...e.cache.ram.points()].map(({ handle }) => handle),
      );
    }
    const asked = e.start(prompt('abcdefgh'));
    if (when === 'computing') await e.until(() => e.runner.stats().prefillTokens >= 384);
    if (when === 'writing') store.hangs = true;
    if (when === 'writing') await e.until(() => answerOf(asked).length > 0);
    if (when === 'restoring') store.hangs = true;
    if (when === 'restoring') await e.until(() => asked.events.some(({ t }) => t === 'restore'));
    const purged = e.cache.purge({ scope: null, prefixId: null, unusedSinceMs: null, dryRun: false });
    store.hangs = false;
    await e.finish([asked]);
    await e.settle();
    await purged;
    expect(answerOf(asked)).toEqual(right);
    expect(store.records()).toEqual([]);
    expect(e.cache.ram.stats).toMatchObject({ namedBlocks: 0, keptBytes: 0 });
    expect(e.memory.numPoints).toBe(0);
    expect(hitsOf(await e.ask(prompt('abcdefgh'))).slice(0, 3)).toEqual([0, 0, 0]);
    e.checkIdle();
  },
);

test('a purge of one request does not keep the next from being stored', async () => {
  const e = new CachedEngine();
  const wishes = { ...useCache };
  const running = e.start(prompt('abc'), { cache: wishes, stop: { maxTokens: 50 } });
  await e.until(() => answerOf(running).length > 0);
  void e.purge();
  await e.finish([running]);
  expect(wishes).toEqual(useCache);
  expect(useOf(await e.ask(prompt('abc'), { cache: wishes })).writeTokens).toBe(384);
});

test('pins keep a prefix on the disk; a pin of what is only queued comes with it', async () => {
  const e = new CachedEngine({ keptBlocks: 0, disk: { regionBytes: 16_384, regions: 6 } });
  const prefixId = useOf(await e.ask(prompt('ab'))).prefixId as string;
  expect(await e.cache.pin(prefixId, e.nowMs + 1e9)).toBe(2 * 1000 + 4000 + 2 * 4096);
  for (const letters of ['cd', 'ef', 'gh', 'ij', 'kl', 'mn', 'op']) await e.ask(prompt(letters));
  expect(hitsOf(await e.ask(prompt('ab')))).toEqual([0, 0, 256, 'none']);
  expect(e.cache.stats().tiers[2]?.pinnedBlocks).toBe(2);
  expect(await e.cache.pin(prefixId, null)).toBeGreaterThan(0);
  await expect(e.cache.pin('00'.repeat(32), 1e12)).rejects.toThrow('no such prefix');
  await expect(e.cache.pin('nonsense', 1e12)).rejects.toThrow('no such prefix');

  (e.store as FakeStore).hangs = true;
  const asked = e.start(prompt('qr'));
  await e.finish([asked]);
  expect(await e.cache.pin(useOf(asked).prefixId as string, e.nowMs + 1e9)).toBeGreaterThan(0);
  (e.store as FakeStore).hangs = false;
  await e.settle();
  expect(e.cache.stats().tiers[2]?.pinnedBlocks).toBe(2);
});

test('a pin outlives its process, whatever happens to it; one that has run out does not, nor one that was taken back', async () => {
  const disk = { regionBytes: 16_384, regions: 6 };
  const old = new CachedEngine({ keptBlocks: 0, disk });
  const pin = async (letters: string, untilMs: number | null) => {
    const prefixId = useOf(await old.ask(prompt(letters))).prefixId as string;
    await old.cache.pin(prefixId, untilMs);
  };
  await pin('ab', old.nowMs + 1e9);
  await pin('x', old.nowMs + 1e9);
  await pin('x', null);
  const e = old.restarted('crash');
  await e.settle();
  expect(e.cache.stats().tiers[2]?.pinnedBlocks).toBe(2);
  for (const letters of ['cd', 'ef', 'gh', 'ij', 'kl', 'mn', 'op']) await e.ask(prompt(letters));
  expect(hitsOf(await e.ask(prompt('ab')))).toEqual([0, 0, 256, 'none']);
  e.nowMs += 2e9;
  const later = e.restarted('close');
  await later.settle();
  expect(later.cache.stats().tiers[2]?.pinnedBlocks).toBe(0);
});

test('what was written on this day before a restart counts in the budget of the day', async () => {
  const e = new CachedEngine({ writeBudgetBytes: 1_000_000, disk: { regionBytes: 16_384, regions: 6 } });
  await e.ask(prompt('ab'));
  const written = e.cache.stats().bytesWrittenToday;
  expect(written).toBeGreaterThan(0);
  // The disk knows what records take, to the page; what was asked for is an estimate.
  expect(e.restarted('crash').cache.stats().bytesWrittenToday).toBeGreaterThan(written * 0.8);
});

test('a pin of what is queued that would hold too much when it is written is not taken', async () => {
  const e = new CachedEngine({ keptBlocks: 0, disk: { regionBytes: 16_384, regions: 4 } });
  const store = e.store as FakeStore;
  const pin = (asked: Asked) => e.cache.pin(useOf(asked).prefixId as string, e.nowMs + 1e9);
  await pin(await e.ask(prompt('ab')));
  await pin(await e.ask(prompt('cd')));
  store.hangs = true;
  const last = e.start(prompt('efghij'));
  await e.finish([last]);
  await pin(last);
  store.hangs = false;
  await e.settle();
  expect(hitsOf(await e.ask(prompt('efghij')))[3]).toBe('none');
  e.checkIdle();
});

test('a purge before the disk is in use waits for it, and purges it', async () => {
  const old = new CachedEngine();
  await old.ask(prompt('ab'));
  const e = old.restarted('close', { isAttached: false });
  const purged = e.cache.purge({ scope: null, prefixId: null, unusedSinceMs: null, dryRun: false });
  await e.round();
  e.attach();
  let isDone = false;
  void purged.finally(() => {
    isDone = true;
  });
  await e.until(() => isDone);
  expect((await purged).blocks).toBe(2);
  expect(hitsOf(await e.ask(prompt('ab')))[3]).toBe('new');
});

test('what a reclaim has dropped, and not yet freed, a purge takes too', async () => {
  const e = new CachedEngine({ keptBlocks: 0, disk: { regionBytes: 16_384, regions: 5 } });
  for (const letters of ['ab', 'cd', 'ef', 'gh', 'ij', 'kl']) await e.ask(prompt(letters));
  const store = e.store as FakeStore;
  const isKnown = (id: number) => e.disk?.index.get(id) !== null;
  store.hangs = true;
  const running = e.start(prompt('mnopqr'));
  await e.finish([running]);
  const purged = e.cache.purge({ scope: null, prefixId: null, unusedSinceMs: null, dryRun: false });
  store.hangs = false;
  await e.settle();
  await purged;
  const after = e.restarted('crash');
  await after.settle();
  expect(after.cache.stats().tiers[2]?.blocks).toBe(0);
  expect(isKnown(1)).toBe(false);
});

test('what runs when the disk is attached is stored, with all that it has made before', async () => {
  const e = new CachedEngine({ isAttached: false });
  expect(hitsOf(await e.ask(prompt('ab')))[3]).toBe('recovering');
  expect(hitsOf(await e.ask(prompt('ab')))).toEqual([0, 256, 0, 'none']);
  expect(e.cache.stats().recovering).toBe(true);
  const early = e.start(prompt('abc'), { stop: { maxTokens: 200 } });
  const twin = e.start(prompt('abcd'), { cache: { ...useCache, scope: 'other' }, stop: { maxTokens: 200 } });
  await e.until(() => answerOf(early).length > 140 && answerOf(twin).length > 5);
  expect(e.store?.records()).toEqual([]);
  e.attach();
  e.check();
  await e.finish([early, twin]);
  await e.settle();
  expect(hitsOf(await e.ask(prompt('ab')))).toEqual([0, 256, 0, 'none']);
  e.checkIdle();
  const after = e.restarted('crash', { isAttached: true });
  const next = await after.ask([...prompt('abc'), ...answerOf(early), 7]);
  expect(hitsOf(next)).toEqual([0, 0, 512, 'none']);
  expect(answerOf(next)).toEqual(await alone([...prompt('abc'), ...answerOf(early), 7]));
  expect(hitsOf(await after.ask(prompt('ab')))[3]).toBe('none');
  expect(hitsOf(await after.ask(prompt('abcd')))).toEqual([0, 384, 0, 'scope']);
  expect(hitsOf(await after.ask(prompt('abcd'), { cache: { ...useCache, scope: 'other' } }))).toEqual([
    0,
    0,
    512,
    'none',
  ]);
  after.checkIdle();
});

test('what is queued when the disk is attached hits what lies there', async () => {
  const old = new CachedEngine({ maxRunning: 1 });
  await old.ask(prompt('ab'));
  const e = old.restarted('close', { isAttached: false });
  const running = e.start(prompt('xyz'), { stop: { maxTokens: 50 } });
  const queued = e.start(prompt('ab'));
  await e.until(() => answerOf(running).length > 3);
  e.attach();
  await e.finish([running, queued]);
  expect(hitsOf(queued)).toEqual([0, 0, 256, 'none']);
  await e.settle();
  e.checkIdle();
});

test('a request waits for what an earlier server left, and not for ever', async () => {
  const old = new CachedEngine();
  await old.ask(prompt('ab'));
  const isDone = async (e: CachedEngine, asked: Asked) => {
    for (let round = 0; round < 50; round++) await e.round();
    return isOver(asked);
  };
  const waiting = { isAttached: false, isRecovered: false, isWorthWaiting: true };
  const e = old.restarted('close', waiting);
  const asked = e.start(prompt('ab'));
  const short = e.start(prompt('', 50));
  expect(await isDone(e, short)).toBe(true); // nothing of it could be there
  expect(isOver(asked)).toBe(false);
  e.attach();
  await e.finish([asked]);
  expect(hitsOf(asked)).toEqual([0, 0, 256, 'none']);

  const late = e.restarted('crash', waiting);
  const impatient = late.start(prompt('ab'));
  expect(await isDone(late, impatient)).toBe(false);
  late.cache.stopWaiting();
  await late.finish([impatient]);
  expect(hitsOf(impatient)).toEqual([0, 0, 0, 'recovering']);

  const lost = late.restarted('crash', waiting);
  const unlucky = lost.start(prompt('ab'));
  lost.cache.giveUpDisk('it is broken');
  await lost.finish([unlucky]);
  expect(hitsOf(unlucky)[2]).toBe(0);
});

test('choices share the prompt, and each keeps its own answer', async () => {
  const e = new CachedEngine({ keptBlocks: 0 });
  const sampling = { ...greedy, temperature: 1, seed: 5 };
  const asked = await e.ask(prompt('ab', 100), { numChoices: 3, sampling, stop: { maxTokens: 60 } });
  for (const choice of [0, 1, 2]) {
    const conversation = [...prompt('ab', 100), ...answerOf(asked, choice), 7];
    const next = await e.ask(conversation);
    expect(hitsOf(next)).toEqual([0, 0, 384, 'none']);
    expect(answerOf(next)).toEqual(await alone(conversation));
  }
  e.checkIdle();
});

test('events tell every move between the tiers, without gaps, and a snapshot tells the same', async () => {
  const e = new CachedEngine({ keptBlocks: 3 });
  const found = new Map<string, number>();
  const name = ({ tier, blockHash, scopeTag }: CacheEvent) =>
    `${tier} ${Buffer.from(scopeTag).toString('hex')} ${Buffer.from(blockHash).toString('hex')}`;
  e.watch((events) => {
    for (const event of events) found.set(name(event), (found.get(name(event)) ?? 0) + (event.t === 'stored' ? 1 : -1));
  });
  for (const letters of ['ab', 'abc', 'x', 'ab', 'yz']) await e.ask(prompt(letters));
  await e.purge({ scope: 'nobody' });
  for (const count of found.values()) expect(count === 0 || count === 1).toBe(true);
  const left = [...found]
    .filter(([, count]) => count === 1)
    .map(([key]) => key)
    .sort();
  const snapshot: string[] = [];
  e.cache.watch(0, (_, events) => snapshot.push(...events.map(name))).close();
  expect(left).toEqual(snapshot.sort());
  expect(left.filter((key) => key.startsWith('disk')).length).toBe(6);
  expect(left.filter((key) => key.startsWith('live')).length).toBe(0);
});

test('a request of several choices that is cut off stores no block that was not computed', async () => {
  const e = new CachedEngine({ mode: 'replay', keptBlocks: 0 });
  const asked = e.start(prompt('abcdefghijklmnop'), { numChoices: 3 });
  await e.until(() => e.runner.stats().prefillTokens > 0);
  asked.abort(new Failure('CANCELLED_BY_CALLER', 'gone'));
  await e.finish([asked]);
  await e.settle();
  const computed = Math.floor(e.runner.stats().prefillTokens / 128) * 128;
  expect(computed).toBeLessThan(2048);
  expect(e.store?.records().map(({ toToken }) => toToken)).toEqual([computed]);
  expect(answerOf(await e.ask(prompt('abcdefghijklmnop')))).toEqual(await alone(prompt('abcdefghijklmnop')));
});

test('a pin is not told that its prefix is nowhere while the disk that may hold it is out of use', async () => {
  const e = new CachedEngine({ disk: null });
  const id = 'ab'.repeat(16);
  await expect(e.cache.pin(id, null)).rejects.toMatchObject({ reason: 'PREFIX_NOT_FOUND' });
  e.cache.giveUpDisk('the disk is gone');
  await expect(e.cache.pin(id, null)).rejects.toMatchObject({ reason: 'CACHE_UNAVAILABLE' });
});
