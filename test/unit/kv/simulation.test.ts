// Engine, scheduler, cache and disk tier over a fake runner and a fake disk, hundreds of random requests a seed: prompts that
// share beginnings, three priorities that preempt each other, cancellations, failures of the disk, restarts and crashes of
// everything above it, purges. Every answer
// equals the one of an engine without any cache; the runner looks at every row, slot and point that it is given. Not proved
// here: timing, and what native and real disks do.

import { expect, test } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import type { Priority } from '../../../src/engine/types.js';
import { POINT_MODES, type PointMode } from '../../../src/kv/points.js';
import { type Asked, answerOf, CachedEngine, isOver, prompt, tick } from '../../fakes/cached-engine.js';
import { greedy } from '../../fakes/requests.js';

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

type Question = readonly [prompt: readonly number[], changes: NonNullable<Parameters<CachedEngine['start']>[1]>];

/** A prompt out of few beginnings, or one that goes on from an answer. */
function randomQuestion(next: (below: number) => number, ended: readonly Asked[]): Question {
  const letters = Array.from({ length: next(7) }, () => 'ab'[next(2) === 0 ? next(2) : 0]).join('');
  const before = ended[next(Math.max(1, ended.length))];
  const goesOn = before !== undefined && next(4) === 0;
  const tokens = goesOn
    ? [...before.request.promptTokens, ...answerOf(before), ...prompt('', 1 + next(150))]
    : prompt(letters, next(3) === 0 ? 0 : 1 + next(140));
  return [
    tokens.length === 0 ? [1] : tokens.slice(0, 2000),
    {
      numChoices: next(6) === 0 ? 1 + next(3) : 1,
      priority: PRIORITIES[next(3)] as Priority,
      sampling: next(3) === 0 ? { ...greedy, temperature: 1, seed: next(3) } : greedy,
      stop: {
        maxTokens: next(3) === 0 ? next(200) : next(6),
        sequences: next(5) === 0 ? [Uint8Array.of(next(256))] : [],
      },
      cache: {
        read: next(8) > 0,
        write: next(8) > 0,
        scope: next(5) === 0 ? 'other' : '',
        boundaries: next(3) === 0 ? [next(6) * 128, next(800)] : [],
      },
    },
  ];
}

/** What an engine without a cache answers. */
class Oracle {
  readonly #engine = new CachedEngine({ keptBlocks: 0, disk: null, numSlots: 4096, maxRunning: 1, poisonToken: 13 });

  async answersOf([tokens, changes]: Question): Promise<Asked> {
    const cache = { read: false, write: false, scope: '', boundaries: [] };
    return this.#engine.ask(tokens, { ...changes, cache });
  }
}

const PRIORITIES: readonly Priority[] = ['background', 'normal', 'interactive'];
/** Sequences that came back with tokens of their own, over all seeds. */
let numContinued = 0;

/** More of them: NANDU_SIM_SEEDS=200 npx vitest run test/unit/kv/simulation.test.ts */
const NUM_SEEDS = Number(process.env.NANDU_SIM_SEEDS ?? 24);

const FAULTS = {
  'write-error': 0.03,
  'read-error': 0.05,
  corrupt: 0.05,
  lost: 0.03,
  'reclaim-error': 0.1,
  'destroy-error': 0.1,
};

interface Course {
  readonly mode: PointMode;
  readonly numSlots: number;
  readonly keptBlocks: number;
  readonly regions: number;
  readonly isFaulty: boolean;
  readonly maxRunning: number;
}

function courseOf(seed: number, next: (below: number) => number): Course {
  return {
    mode: POINT_MODES[seed % 4] as PointMode,
    numSlots: 12 + next(60),
    keptBlocks: [0, 3, 10, 1000][(seed >> 1) % 4] as number,
    regions: 4 + next(12),
    isFaulty: seed % 3 !== 0,
    maxRunning: 1 + next(5),
  };
}

test.each(Array.from({ length: NUM_SEEDS }, (_, index) => index + 1))(
  'seed %i: every answer is the one without a cache',
  async (seed) => {
    const next = random(seed * 7919);
    const course = courseOf(seed, next);
    const { isFaulty, regions, ...fixed } = course;
    const disk = { regionBytes: 40_000, regions, seed, ...(isFaulty ? { faults: FAULTS } : {}) };
    let isAttached = next(2) === 0;
    let e = new CachedEngine({ ...fixed, disk, poisonToken: 13, maxWaiting: 50, isAttached });
    const asked: { readonly question: Question; readonly made: Asked; aborted: boolean }[] = [];
    const ended: Asked[] = [];
    const numRequests = 250;
    const open = () => asked.filter(({ made }) => !isOver(made));
    for (let round = 0; asked.length < numRequests || open().length > 0; round++) {
      if (round > 30_000) throw new Error(`stuck: ${JSON.stringify(course)}`);
      if (asked.length < numRequests && next(3) === 0) {
        const question = randomQuestion(next, ended);
        try {
          asked.push({ question, made: e.start(...question), aborted: false });
        } catch (error) {
          expect((error as Failure).reason).toMatch(/QUEUE_FULL|CONTEXT_LENGTH_EXCEEDED/);
        }
      }
      const victim = asked[next(Math.max(1, asked.length))];
      if (victim && !isOver(victim.made) && next(25) === 0) {
        victim.aborted = true;
        victim.made.abort(new Failure('CANCELLED_BY_OPERATOR', 'drawn by lot'));
      }
      if (next(2) === 0) e.runner.step();
      if (next(2) === 0) e.runner.onWake();
      if (next(2) === 0) e.store?.settle(1 + next(4));
      if (next(300) === 0) {
        const selector = {
          scope: next(2) === 0 ? '' : null,
          prefixId: null,
          unusedSinceMs: null,
          dryRun: next(4) === 0,
        };
        e.cache.purge(selector).catch((error) => expect((error as Failure).reason).toBe('CACHE_UNAVAILABLE'));
      }
      if (next(400) === 0) {
        // Whoever runs then is cut off; their answers so far must be right all the same.
        await e.engine.close();
        isAttached = next(2) === 0;
        const changes = { isAttached, isRecovered: next(2) === 0, isWorthWaiting: next(2) === 0 };
        e = e.restarted(next(2) === 0 ? 'close' : 'crash', changes);
      }
      if (!isAttached && next(30) === 0) {
        e.attach();
        isAttached = true;
      }
      if (next(30) === 0) e.cache.stopWaiting();
      e.nowMs += next(50);
      await tick();
      e.check();
      for (const { made } of asked) if (made.events.at(-1)?.t === 'finished' && !ended.includes(made)) ended.push(made);
    }
    const definitions = e.runner.plans.flatMap((plan) => plan.definitions);
    numContinued += definitions.filter(({ numGenerated }) => numGenerated > 0).length;
    const oracle = new Oracle();
    let numHits = 0;
    for (const { question, made, aborted } of asked) {
      const right = await oracle.answersOf(question);
      const last = made.events.at(-1);
      if (last?.t === 'failed' && last.failure.reason === 'CANCELLED_BY_OPERATOR') expect(aborted).toBe(true);
      for (let choice = 0; choice < made.request.numChoices; choice++) {
        const whole = answerOf(right, choice);
        const given = answerOf(made, choice);
        expect(given).toEqual(last?.t === 'finished' ? whole : whole.slice(0, given.length));
      }
      if (last?.t !== 'finished') continue;
      const { hitLiveTokens, hitMemoryTokens, hitDiskTokens, promptTokens } = last.use;
      expect(hitLiveTokens + hitMemoryTokens + hitDiskTokens).toBeLessThan(promptTokens);
      numHits += hitLiveTokens + hitMemoryTokens + hitDiskTokens;
    }
    // A disk without faults gives hits whatever is kept: a course that proves nothing must not pass.
    if (!isFaulty || course.keptBlocks > 0) expect(numHits).toBeGreaterThan(0);
    await e.settle();
    e.checkIdle();
    expect(e.cache.ram.stats.keptBytes).toBeLessThanOrEqual(course.keptBlocks * e.runner.stats().kvBlockBytes);
    await e.purge();
    expect(e.memory.numPoints).toBe(0);
    expect(e.cache.ram.stats).toMatchObject({ namedBlocks: 0, keptBytes: 0, heldBlocks: 0 });
    await e.engine.close();
  },
);

test('some were preempted while they answered', () => {
  expect(numContinued).toBeGreaterThan(0);
});
