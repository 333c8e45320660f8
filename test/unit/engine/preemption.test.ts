// A request of a higher class does not wait behind lower ones that could wait instead: who goes, who stays, and that nothing of
// an answer tells. Over a fake runner that checks every row it is given; native's part is in test/e2e/preemption.test.ts.

import { expect, test } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import { Scheduler } from '../../../src/engine/scheduler.js';
import type { Priority } from '../../../src/engine/types.js';
import {
  type Asked,
  answerOf,
  CachedEngine,
  type CachedEngineOptions,
  hitsOf,
  isOver,
  prompt,
  useOf,
} from '../../fakes/cached-engine.js';
import { distinct, greedy, useCache } from '../../fakes/requests.js';

const long = { stop: { maxTokens: 300 }, sampling: { ...greedy, temperature: 1, seed: 5 } };
const hasTokens = (asked: Asked, count: number) => () => answerOf(asked).length >= count;
const numContinued = (e: CachedEngine) =>
  e.runner.plans.flatMap(({ definitions }) => definitions).filter(({ numGenerated }) => numGenerated > 0).length;

/** One background request that has begun to answer, on an engine that runs one at a time. */
async function busy(
  options: CachedEngineOptions = {},
  changes: NonNullable<Parameters<CachedEngine['start']>[1]> = {},
) {
  const e = new CachedEngine({ maxRunning: 1, ...options });
  const background = e.start(prompt('ab', 50), { ...long, priority: 'background', ...changes });
  await e.until(hasTokens(background, 100));
  return { e, background };
}

async function undisturbed(): Promise<number[]> {
  const alone = new CachedEngine({ maxRunning: 1 });
  return answerOf(await alone.ask(prompt('ab', 50), long));
}

test('an interactive request takes the place of a background one, which goes on as if nothing had been', async () => {
  const { e, background } = await busy();
  const interactive = e.start(prompt('x'), { priority: 'interactive' });
  await e.finish([interactive]);
  expect(isOver(background)).toBe(false);
  await e.finish([background]);
  expect(numContinued(e)).toBe(1);
  expect(answerOf(background)).toEqual(await undisturbed());
  // The client is told of its prompt once, and never that it waits again.
  const kinds = background.events.map(({ t }) => t);
  expect(kinds.lastIndexOf('prefill')).toBeLessThan(kinds.indexOf('tokens'));
  expect(kinds.filter((t) => t === 'queued' || t === 'restore')).toEqual([]);
  expect(background.events.at(-2)).toMatchObject({ t: 'ended', completionTokens: 300 });
  // It is charged for what it missed, not for what it had to find again.
  expect(hitsOf(background)).toEqual([0, 0, 0, 'new']);
  expect(useOf(background).promptTokens).toBe(306);
  await e.settle();
  e.checkIdle();
  expect(e.cache.stats()).toMatchObject({ hitTokens: 0, missTokens: 306 + 129 });
});

test('its rows come back from the disk when others needed the slots', async () => {
  const { e, background } = await busy({ numSlots: 6, maxRunning: 4 });
  const interactive = e.start(prompt('vwxyz'), { priority: 'interactive' });
  await e.finish([interactive, background]);
  expect(answerOf(background)).toEqual(await undisturbed());
  expect(useOf(background).kvBytesRead).toBeGreaterThan(0);
  expect(useOf(background)).toMatchObject({ hitDiskTokens: 0 });
});

test.each([
  ['an equal one', {}, {}, 'background'],
  ['one of several choices', {}, { numChoices: 2 }, 'interactive'],
  ['one that keeps nothing', {}, { cache: { ...useCache, write: false } }, 'interactive'],
  ['any, where there is no disk', { disk: null }, {}, 'interactive'],
] as const)('%s is not preempted', async (_, options, changes, priority) => {
  const { e, background } = await busy(options, changes);
  const other = e.start(prompt('x'), { priority: priority as Priority });
  await e.finish([other]);
  expect(isOver(background)).toBe(true);
  expect(numContinued(e)).toBe(0);
});

test('the youngest of the lowest class goes, and no more of them than must', async () => {
  const e = new CachedEngine({ maxRunning: 4 });
  const running = (['normal', 'background', 'background', 'interactive'] as const).map((priority, index) =>
    e.start(prompt('abcd'[index] as string, 50), { ...long, priority }),
  );
  await e.until(() => running.every((asked) => answerOf(asked).length >= 30));
  const arrival = e.start(prompt('x'), { priority: 'interactive' });
  await e.finish([arrival]);
  const lengths = running.map((asked) => answerOf(asked).length);
  await e.finish(running);
  expect(lengths[2]).toBeLessThan(Math.min(lengths[0] as number, lengths[1] as number, lengths[3] as number));
  expect(numContinued(e)).toBe(1);
});

test('nobody goes in vain', async () => {
  const e = new CachedEngine({ maxRunning: 4, numSlots: 16 });
  const small = e.start(prompt('a', 50), { ...long, priority: 'background' }); // 4 blocks
  const large = e.start(prompt('bcdefgh', 50), { ...long, priority: 'normal' }); // 10
  await e.until(() => hasTokens(small, 10)() && hasTokens(large, 10)());
  const arrival = e.start(prompt('stuvwxy'), { priority: 'normal' }); // 8: both would have to go
  await e.finish([arrival, small, large]);
  expect(numContinued(e)).toBe(0);
});

test('a preempted request can be cancelled while it waits', async () => {
  const { e, background } = await busy();
  const interactive = e.start(prompt('x'), { ...long, priority: 'interactive' });
  await e.until(hasTokens(interactive, 5));
  background.abort(new Failure('CANCELLED_BY_CALLER', 'enough'));
  await e.finish([background]);
  expect(background.events.at(-1)).toMatchObject({ t: 'failed', failure: { reason: 'CANCELLED_BY_CALLER' } });
  await e.finish([interactive]);
  expect(numContinued(e)).toBe(0);
  await e.settle();
  e.checkIdle();
});

test('a purge concerns what waits to go on, too: nothing of it is found or named afterwards', async () => {
  const { e, background } = await busy();
  const interactive = e.start(prompt('x'), { ...long, priority: 'interactive' });
  await e.until(hasTokens(interactive, 5));
  await e.purge();
  await e.finish([interactive, background]);
  expect(answerOf(background)).toEqual(await undisturbed());
  expect(useOf(background)).toMatchObject({ prefixId: null });
  await e.settle();
  expect(e.cache.probe(Uint32Array.from(prompt('ab', 50)), '')).toMatchObject({ hitMemoryTokens: 0, hitDiskTokens: 0 });
});

test('what would start anew is not preempted: points switched off, a disk that took nothing of it', async () => {
  for (const options of [{ mode: 'replay' }, { writeBudgetBytes: 1 }] as const) {
    const { e, background } = await busy(options);
    const interactive = e.start(prompt('x'), { priority: 'interactive' });
    await e.finish([interactive, background]);
    expect(numContinued(e)).toBe(0);
  }
});

test('one that came back does not leave again before it has come further', async () => {
  const { e, background } = await busy({ maxRunning: 1 });
  let count = answerOf(background).length;
  for (let round = 0; round < 5; round++) {
    const interactive = e.start(prompt('x'), { priority: 'interactive' });
    await e.finish([interactive]);
    expect(answerOf(background).length).toBeGreaterThanOrEqual(count);
    if (round > 0) expect(answerOf(background).length).toBeGreaterThan(count);
    count = answerOf(background).length;
  }
});

test('what native still does before it hears of the preemption counts, be it the end', () => {
  const { cache } = new CachedEngine({ maxRunning: 1 });
  const limits = { maxRunning: 1, maxWaiting: 8, kvBlocks: 64, stepTokens: 512, mixedPrefillTokens: 128 };
  const scheduler = new Scheduler(limits, cache);
  const token = (id: number) => ({ id, logprob: 0, top: [], inReasoning: false });
  const tokens = (...ids: number[]) => scheduler.apply({ t: 'tokens', sequence: 1, choice: 0, tokens: ids.map(token) });
  scheduler.add(distinct(1, 10), 'background');
  scheduler.plan();
  tokens(7, 8);
  scheduler.add(distinct(2, 10), 'interactive');
  expect(scheduler.plan()?.entries).toEqual([]); // its place is free once native says so
  tokens(9);
  scheduler.apply({ t: 'released', sequence: 1 });
  expect(scheduler.plan()?.definitions).toMatchObject([{ sequence: 2 }]);
  scheduler.cancel(2);
  scheduler.plan();
  scheduler.apply({ t: 'released', sequence: 2 });
  const [again] = scheduler.plan()?.definitions ?? [];
  expect(again).toMatchObject({ sequence: 1, numGenerated: 3 });
  expect([...(again?.promptTokens.subarray(10) ?? [])]).toEqual([7, 8, 9]);

  scheduler.add(distinct(3, 10), 'interactive');
  scheduler.plan();
  tokens(5);
  const end = { reason: 'length', match: null, completionTokens: 4, reasoningTokens: 0 } as const;
  scheduler.apply({ t: 'ended', sequence: 1, choice: 0, end });
  scheduler.apply({ t: 'released', sequence: 1 });
  // The end is told to the client after all reports of the turn were applied, and says what it used.
  expect(scheduler.useOf(1)).toMatchObject({ promptTokens: 10 });
  scheduler.endTurn();
  expect(scheduler.useOf(1)).toBeNull();
  scheduler.checkIntegrity();
  expect(scheduler.plan()?.entries).toMatchObject([{ sequence: 3 }]);
  expect(scheduler.numWaiting).toBe(0);
});
