// Stories of the policy with exact ids and plans; what happens over many random requests is in simulation.test.ts.

import { expect, test } from 'vitest';
import type { Plan, SequenceDefinition } from '../../../src/engine/plan.js';
import type { Report } from '../../../src/engine/reports.js';
import { Scheduler, type SchedulerLimits } from '../../../src/engine/scheduler.js';
import { KvCache } from '../../../src/kv/cache.js';
import { blocksNeeded } from '../../../src/kv/lease.js';
import { distinct as definition, keepsNothing } from '../../fakes/requests.js';

const LIMITS: SchedulerLimits = {
  maxRunning: 4,
  maxWaiting: 8,
  kvBlocks: 100,
  stepTokens: 512,
  mixedPrefillTokens: 128,
};

/** A scheduler whose integrity is checked after every verb. */
function scheduler(limits: Partial<SchedulerLimits> = {}) {
  const all = { ...LIMITS, ...limits };
  const cache = new KvCache({
    ...keepsNothing,
    numSlots: all.kvBlocks,
    blockBytes: 1,
    releasePoint: () => {},
    onChange: () => {},
    now: () => 0,
    wallNow: () => 0,
    prefillTokensPerSecond: () => 0,
  });
  const inner = new Scheduler(all, cache);
  const checked = <A extends unknown[], R>(verb: (...args: A) => R) => {
    return (...args: A): R => {
      const result = verb(...args);
      inner.checkIntegrity();
      return result;
    };
  };
  return {
    add: checked(inner.add.bind(inner)),
    cancel: checked(inner.cancel.bind(inner)),
    apply: checked(inner.apply.bind(inner)),
    plan: checked(inner.plan.bind(inner)),
    positions: () => Object.fromEntries(inner.positions()),
    inner,
  };
}

/** What it needs when nobody spares it anything. */
const blocksOf = ({ promptTokens, stop, contextTokens, numChoices }: SequenceDefinition): number =>
  blocksNeeded(promptTokens.length, Math.min(promptTokens.length + stop.maxTokens, contextTokens), numChoices);
const ids = (plan: Plan | null) => plan?.entries.map((entry) => entry.sequence);
const chunks = (plan: Plan | null) => plan?.entries.map((entry) => entry.maxChunk);
const tokens = (sequence: number, choice = 0): Report => {
  return { t: 'tokens', sequence, choice, tokens: [{ id: 1, logprob: 0, top: [], inReasoning: false }] };
};
const ended = (sequence: number, choice = 0): Report => {
  return {
    t: 'ended',
    sequence,
    choice,
    end: { reason: 'length', match: null, completionTokens: 1, reasoningTokens: 0 },
  };
};

test('a lone prompt gets whole steps, and the plan stands while nothing but its output grows', () => {
  const s = scheduler();
  expect(s.add(definition(1, 1000), 'normal')).toMatchObject({ t: 'accepted', position: 0 });
  expect(s.plan()).toMatchObject({ number: 1, stepTokens: 512, entries: [{ sequence: 1, maxChunk: 0 }] });
  expect(s.plan()).toBeNull();
  s.apply({ t: 'progress', sequence: 1, promptDone: 512, promptTotal: 1000 });
  expect(s.plan()).toBeNull();
  s.apply({ t: 'progress', sequence: 1, promptDone: 1000, promptTotal: 1000 });
  expect(s.plan()).toBeNull(); // native went on to decode by itself
  for (let count = 0; count < 10; count++) s.apply(tokens(1));
  expect(s.plan()).toBeNull();
  s.apply(ended(1));
  expect(s.plan()).toMatchObject({ number: 2, entries: [] });
  s.apply({ t: 'released', sequence: 1 });
  expect(s.plan()).toBeNull();
  expect(s.inner.numRunning).toBe(0);
});

test('a definition is sent once, in the first plan that names its sequence', () => {
  const s = scheduler();
  s.add(definition(1, 10), 'normal');
  expect(s.plan()?.definitions.map((d) => d.sequence)).toEqual([1]);
  s.add(definition(2, 10), 'normal');
  expect(s.plan()?.definitions.map((d) => d.sequence)).toEqual([2]);
});

test('decoders stand before prompts, and prompts beside them get few rows a step', () => {
  const s = scheduler();
  s.add(definition(1, 10), 'normal');
  s.plan();
  s.add(definition(2, 10, { numChoices: 3 }), 'normal');
  s.apply(tokens(1));
  const second = s.plan();
  expect(ids(second)).toEqual([1, 2]);
  expect(second?.stepTokens).toBe(1 + 128);
  s.add(definition(3, 5000), 'normal');
  s.apply(tokens(2, 0));
  const third = s.plan();
  expect(ids(third)).toEqual([1, 2, 3]);
  expect(third?.stepTokens).toBe(1 + 3 + 128);
  s.apply(ended(2, 1));
  expect(s.plan()?.stepTokens).toBe(1 + 2 + 128);
});

test('the oldest of several prompts leaves a quarter of the step to those behind it', () => {
  const s = scheduler();
  s.add(definition(1, 3000, { contextTokens: 8192 }), 'normal');
  s.add(definition(2, 20), 'normal');
  s.add(definition(3, 20), 'normal');
  const plan = s.plan();
  expect(ids(plan)).toEqual([1, 2, 3]);
  expect(chunks(plan)).toEqual([384, 0, 0]);
  s.apply(tokens(2));
  s.apply(tokens(3));
  expect(chunks(s.plan())).toEqual([0, 0, 0]); // 2 and 3 decode now; 1 is the only prompt
});

test('priority decides the order of admission, then first come first served', () => {
  const s = scheduler({ maxRunning: 1 });
  s.add(definition(1, 10), 'normal');
  s.plan();
  expect(s.add(definition(2, 10), 'background')).toMatchObject({ t: 'accepted', position: 1 });
  expect(s.add(definition(3, 10), 'normal')).toMatchObject({ t: 'accepted', position: 1 });
  expect(s.add(definition(4, 10), 'normal')).toMatchObject({ t: 'accepted', position: 2 });
  expect(s.add(definition(5, 10), 'interactive')).toMatchObject({ t: 'accepted', position: 1 });
  expect(s.positions()).toEqual({ 5: 1, 3: 2, 4: 3, 2: 4 });
  const order: number[] = [];
  for (let running = 1; running !== 0; running = order.at(-1) ?? 0) {
    s.apply(ended(running));
    s.plan();
    s.apply({ t: 'released', sequence: running });
    const next = ids(s.plan());
    if (next?.length !== 1) break;
    order.push(next[0] as number);
  }
  expect(order).toEqual([5, 3, 4, 2]);
});

test('a place is free when native has released it, not when the answer has ended', () => {
  const s = scheduler({ maxRunning: 1 });
  s.add(definition(1, 10), 'normal');
  s.add(definition(2, 10), 'normal');
  expect(ids(s.plan())).toEqual([1]);
  s.apply(tokens(1));
  s.apply(ended(1));
  expect(ids(s.plan())).toEqual([]);
  expect(s.plan()).toBeNull();
  s.apply({ t: 'released', sequence: 1 });
  expect(ids(s.plan())).toEqual([2]);
});

test('an answer and its release in one turn let the next one in at once', () => {
  const s = scheduler({ maxRunning: 1 });
  s.add(definition(1, 10), 'normal');
  s.add(definition(2, 10), 'normal');
  s.plan();
  s.apply(tokens(1));
  s.apply(ended(1));
  s.apply({ t: 'released', sequence: 1 });
  expect(ids(s.plan())).toEqual([2]);
});

test('a choice that ends leaves its sisters running', () => {
  const s = scheduler();
  s.add(definition(1, 10, { numChoices: 2 }), 'normal');
  s.plan();
  s.apply(tokens(1, 0));
  s.apply(ended(1, 0));
  expect(s.inner.numRunning).toBe(1);
  s.apply(ended(1, 1));
  expect(s.inner.numRunning).toBe(0);
  expect(ids(s.plan())).toEqual([]);
});

test('a request without output ends from its prompt', () => {
  const s = scheduler();
  s.add(definition(1, 10, { stop: { maxTokens: 0 } }), 'normal');
  s.plan();
  s.apply(ended(1));
  expect(ids(s.plan())).toEqual([]);
});

test('blocks: the prompt is shared by the choices, output is not, and the context bounds both', () => {
  expect(blocksOf(definition(1, 128, { stop: { maxTokens: 0 } }))).toBe(1);
  expect(blocksOf(definition(1, 129, { stop: { maxTokens: 0 } }))).toBe(2);
  expect(blocksOf(definition(1, 300, { stop: { maxTokens: 100 } }))).toBe(4);
  expect(blocksOf(definition(1, 300, { numChoices: 3, stop: { maxTokens: 100 } }))).toBe(2 + 3 * 2);
  expect(blocksOf(definition(1, 300, { contextTokens: 512, stop: { maxTokens: 1e9 } }))).toBe(4);
});

test('a request that does not fit yet waits, and nobody overtakes it', () => {
  const s = scheduler({ kvBlocks: 10 });
  s.add(definition(1, 640, { stop: { maxTokens: 128 } }), 'normal'); // 6 blocks
  s.add(definition(2, 640, { stop: { maxTokens: 128 } }), 'normal'); // 6: must wait
  s.add(definition(3, 10), 'normal'); // 1: would fit
  expect(ids(s.plan())).toEqual([1]);
  expect(s.positions()).toEqual({ 2: 1, 3: 2 });
  s.apply(ended(1));
  s.plan();
  s.apply({ t: 'released', sequence: 1 });
  expect(ids(s.plan())).toEqual([2, 3]);
});

test('what can never fit is refused at once, what just fits is not', () => {
  const s = scheduler({ kvBlocks: 4 });
  expect(s.add(definition(1, 500, { stop: { maxTokens: 13 } }), 'normal')).toEqual({ t: 'never-fits', blocks: 5 });
  expect(s.add(definition(2, 500, { stop: { maxTokens: 12 } }), 'normal')).toMatchObject({
    t: 'accepted',
    position: 0,
  });
});

test('the queue is bounded beyond what runs at once; what waits in lower classes keeps nobody out', () => {
  const s = scheduler({ maxRunning: 2, maxWaiting: 2 });
  for (const id of [1, 2, 3, 4]) expect(s.add(definition(id, 10), 'normal').t).toBe('accepted');
  expect(s.add(definition(5, 10), 'normal')).toEqual({ t: 'queue-full' });
  expect(s.add(definition(6, 10), 'background')).toEqual({ t: 'queue-full' });
  expect(ids(s.plan())).toEqual([1, 2]);
  for (const id of [10, 11]) expect(s.add(definition(id, 10), 'interactive').t).toBe('accepted');
  expect(s.add(definition(12, 10), 'interactive')).toEqual({ t: 'queue-full' });
  for (const id of [10, 11]) s.cancel(id);
  expect(s.add(definition(7, 10), 'normal')).toEqual({ t: 'queue-full' });
  s.cancel(3);
  expect(s.add(definition(8, 10), 'normal')).toMatchObject({ t: 'accepted', position: 2 });
});

test('without a queue a request runs or is refused', () => {
  const s = scheduler({ maxRunning: 1, maxWaiting: 0 });
  expect(s.add(definition(1, 10), 'normal').t).toBe('accepted');
  expect(s.add(definition(2, 10), 'normal').t).toBe('queue-full');
});

test('cancelled: in the queue it is forgotten, in prefill and decode the next plan is without it', () => {
  const s = scheduler({ maxRunning: 2 });
  for (const id of [1, 2, 3]) s.add(definition(id, 10), 'normal');
  s.plan();
  s.apply(tokens(1));
  s.cancel(3);
  expect(s.inner.numWaiting).toBe(0);
  s.cancel(1);
  expect(ids(s.plan())).toEqual([2]);
  s.cancel(2);
  expect(ids(s.plan())).toEqual([]);
  s.cancel(2);
  s.cancel(99);
  expect(s.plan()).toBeNull();
});

test('reports that crossed a cancellation change nothing', () => {
  const s = scheduler();
  s.add(definition(1, 10), 'normal');
  s.plan();
  s.cancel(1);
  s.plan();
  s.apply(tokens(1));
  s.apply({ t: 'progress', sequence: 1, promptDone: 10, promptTotal: 10 });
  s.apply(ended(1));
  s.apply({ t: 'failed', sequence: 1, code: 5, message: '' });
  expect(s.plan()).toBeNull();
  s.apply({ t: 'released', sequence: 1 });
});

test('a failed sequence leaves the plan, the others stay', () => {
  const s = scheduler();
  s.add(definition(1, 10), 'normal');
  s.add(definition(2, 10), 'normal');
  s.plan();
  s.apply({ t: 'failed', sequence: 1, code: 5, message: 'not finite' });
  expect(ids(s.plan())).toEqual([2]);
});

test('reports that cannot be are bugs, named', () => {
  const s = scheduler();
  s.add(definition(1, 10, { numChoices: 2 }), 'normal');
  expect(() => s.inner.apply(tokens(1))).toThrow("native reports 'tokens' of sequence 1, which is not running");
  s.plan();
  expect(() => s.inner.apply({ t: 'released', sequence: 1 })).toThrow(
    'native releases sequence 1, which is in prefill',
  );
  s.apply(ended(1, 1));
  expect(() => s.inner.apply(ended(1, 1))).toThrow('native ends choice 1 of sequence 1 twice');
  expect(() => s.inner.apply(tokens(2))).toThrow('not running');
});
