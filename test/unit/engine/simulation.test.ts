// Engine and scheduler over a fake runner, hundreds of random requests a seed: arrivals, cancellations, steps and turns
// in any order. The runner throws on a plan that breaks a rule of engine.h or passes a budget. Not proved here: timing.

import { expect, test } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import { NanduEngine } from '../../../src/engine/engine.js';
import { Scheduler } from '../../../src/engine/scheduler.js';
import type { EngineEvent, Priority } from '../../../src/engine/types.js';
import { KvCache } from '../../../src/kv/cache.js';
import { FakeRunner } from '../../fakes/fake-runner.js';
import { distinct, keepsNothing, request, tokensOf } from '../../fakes/requests.js';

/** mulberry32: a seeded generator of numbers below `below`. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const PRIORITIES: readonly Priority[] = ['background', 'normal', 'interactive'];
const tick = () => new Promise<void>((resolve) => setImmediate(resolve));

function randomRequest(next: (below: number) => number) {
  const prompt = Array.from({ length: 1 + next(next(4) === 0 ? 1500 : 60) }, () => next(200));
  return request({
    prompt,
    numChoices: 1 + (next(4) === 0 ? next(8) : 0),
    priority: PRIORITIES[next(3)] as Priority,
    stop: { maxTokens: next(40), ignoreEos: next(2) === 0, minTokens: next(4), tokenIds: next(3) === 0 ? [7, 9] : [] },
  });
}

/** Every event in an allowed order: queued*, prefill*, tokens and ends of choices, one last one. */
function checkEvents(events: readonly EngineEvent[], numChoices: number): void {
  const last = events.at(-1);
  expect(last?.t === 'finished' || last?.t === 'failed').toBe(true);
  let phase = 0;
  const over = new Set<number>();
  for (const event of events.slice(0, -1)) {
    const now = { queued: 0, restore: 1, prefill: 1, tokens: 2, ended: 2, finished: 9, failed: 9 }[event.t];
    expect(now).toBeGreaterThanOrEqual(phase);
    expect(now).toBeLessThan(9);
    phase = now;
    if (event.t === 'tokens' || event.t === 'ended') expect(over.has(event.choice)).toBe(false);
    if (event.t === 'ended') {
      over.add(event.choice);
      expect(event.completionTokens).toBe(tokensOf(events, event.choice).length);
    }
  }
  if (last?.t === 'finished') expect(over.size).toBe(numChoices);
}

test.each([1, 2, 3, 4, 5, 6, 7, 8])('seed %i: every request ends once, in order, within all budgets', async (seed) => {
  const next = random(seed);
  const kvBlocks = 20 + next(60);
  const maxRunning = 1 + next(8);
  const runner = new FakeRunner({ kvBlocks, maxSequences: maxRunning, stepMs: null, poisonToken: 13 });
  const engine = new NanduEngine(runner, {
    contextTokens: 2048,
    eosToken: 5,
    maxRunning,
    maxWaiting: 20,
    cache: keepsNothing,
    now: () => 0,
  });
  const started: { made: ReturnType<typeof randomRequest>; aborted: boolean }[] = [];
  let refused = 0;
  const busy = () => started.some(({ made }) => !['finished', 'failed'].includes(made.events.at(-1)?.t ?? ''));
  for (let round = 0; round < 1500 || busy(); round++) {
    if (round > 100_000) throw new Error('requests are stuck');
    if (round < 1500 && next(3) === 0) {
      const made = randomRequest(next);
      const events = made.events.length;
      try {
        engine.start(made.request);
        expect(made.events.length).toBe(events); // none inside start()
        started.push({ made, aborted: false });
      } catch (error) {
        expect(error).toBeInstanceOf(Failure);
        expect(['QUEUE_FULL', 'CONTEXT_LENGTH_EXCEEDED']).toContain((error as Failure).reason);
        refused += 1;
      }
    }
    const victim = started[next(Math.max(1, started.length))];
    if (victim && next(40) === 0) {
      victim.aborted = true;
      victim.made.abort(new Failure('CANCELLED_BY_OPERATOR', 'drawn by lot'));
    }
    if (next(2) === 0) runner.step();
    if (next(2) === 0) runner.onWake();
    if (next(4) === 0) await tick();
  }
  expect(started.length).toBeGreaterThan(50);
  const ends = new Map<string, number>();
  for (const { made, aborted } of started) {
    checkEvents(made.events, made.request.numChoices);
    const last = made.events.at(-1) as EngineEvent;
    const how = last.t === 'failed' ? last.failure.reason : last.t;
    if (how === 'CANCELLED_BY_OPERATOR') expect(aborted).toBe(true);
    ends.set(how, (ends.get(how) ?? 0) + 1);
  }
  expect([...ends.keys()].sort()).toEqual(['CANCELLED_BY_OPERATOR', 'ENGINE_FAILURE', 'finished']);
  expect(refused).toBeGreaterThan(0);
  runner.onWake();
  expect(runner.stats().sequences).toBe(0);
  expect(engine.load()).toMatchObject({ running: 0, waiting: 0, waitingTokens: 0 });
  await engine.close();
});

test('what a request generates does not depend on who runs beside it', async () => {
  const alone = new FakeRunner({ stepMs: null });
  const one = request({ prompt: [4, 5, 6], stop: { maxTokens: 30 } });
  const config = { contextTokens: 256, eosToken: null, maxRunning: 4, maxWaiting: 99, cache: keepsNothing };
  const engine = new NanduEngine(alone, config);
  engine.start(one.request);
  await tick();
  while (alone.step());
  alone.onWake();

  const crowd = new FakeRunner({ stepMs: null });
  const busy = new NanduEngine(crowd, config);
  const again = request({ prompt: [4, 5, 6], stop: { maxTokens: 30 } });
  for (let index = 0; index < 30; index++) {
    if (index === 15) busy.start(again.request);
    busy.start(request({ prompt: [index], stop: { maxTokens: 5 + index } }).request);
  }
  await tick();
  for (let round = 0; round < 1000; round++) {
    crowd.step();
    if (round % 3 === 0) crowd.onWake();
  }
  expect(tokensOf(one.events).length).toBe(30);
  expect(tokensOf(again.events)).toEqual(tokensOf(one.events));
});

test.each([11, 12, 13, 14])('seed %i: within a class admission is in order of arrival, whatever the sizes', (seed) => {
  const next = random(seed);
  const runner = new FakeRunner({ maxSequences: 5, kvBlocks: 40, stepMs: null });
  const cache = new KvCache({
    ...keepsNothing,
    numSlots: 40,
    blockBytes: 1,
    releasePoint: (point) => runner.releasePoint(point),
    onChange: () => {},
    now: () => 0,
    wallNow: () => 0,
    prefillTokensPerSecond: () => 0,
  });
  const limits = { maxRunning: 5, maxWaiting: 1e6, kvBlocks: 40, stepTokens: 512, mixedPrefillTokens: 128 };
  const scheduler = new Scheduler(limits, cache);
  const admitted: Record<Priority, number[]> = { background: [], normal: [], interactive: [] };
  const priorities = new Map<number, Priority>();
  for (let round = 0; round < 6000; round++) {
    const id = round + 1;
    if (round < 400) {
      const priority = PRIORITIES[next(3)] as Priority;
      const size = next(3) === 0 ? 1 + next(3000) : 1 + next(100);
      const verdict = scheduler.add(distinct(id, size, { stop: { maxTokens: next(30) } }), priority);
      expect(verdict.t).toBe('accepted');
      priorities.set(id, priority);
    }
    const plan = scheduler.plan();
    scheduler.checkIntegrity();
    if (plan) runner.submit(plan);
    for (const { sequence } of plan?.definitions ?? []) admitted[priorities.get(sequence) as Priority].push(sequence);
    runner.step();
    for (const report of runner.drain()) scheduler.apply(report);
    scheduler.checkIntegrity();
  }
  for (const priority of PRIORITIES) expect(admitted[priority]).toEqual([...admitted[priority]].sort((a, b) => a - b));
  expect(PRIORITIES.reduce((sum, priority) => sum + admitted[priority].length, 0)).toBe(400);
  expect(scheduler.numRunning).toBe(0);
});
