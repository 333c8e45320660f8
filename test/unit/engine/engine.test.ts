// The engine's promises to the API layer, over the fake runner: events, aborts, refusals, drain, close, load.

import { expect, test } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import { type EngineConfig, NanduEngine } from '../../../src/engine/engine.js';
import { FakeRunner, type FakeRunnerOptions } from '../../fakes/fake-runner.js';
import { greedy, keepsNothing, request, tokensOf } from '../../fakes/requests.js';

function make(config: Partial<EngineConfig> = {}, options: FakeRunnerOptions = {}) {
  const runner = new FakeRunner(options);
  const engine = new NanduEngine(runner, {
    contextTokens: 1024,
    eosToken: 0,
    maxRunning: 4,
    maxWaiting: 8,
    cache: keepsNothing,
    ...config,
  });
  return { runner, engine };
}
const tick = () => new Promise<void>((resolve) => setImmediate(resolve));
const refusal = (start: () => unknown): Failure => {
  try {
    start();
  } catch (error) {
    if (error instanceof Failure) return error;
    throw error;
  }
  throw new Error('was accepted');
};

test('a request gives prefill, then its tokens, then its end, then finished', async () => {
  const { engine } = make();
  const { request: asked, events, over } = request({ prompt: [1, 2, 3], stop: { maxTokens: 3 } });
  expect(engine.start(asked)).toMatchObject({ queuePosition: 0 });
  expect(events).toEqual([]);
  expect(await over).toMatchObject({ t: 'finished' });
  expect(events.map((event) => event.t)).toEqual([
    'prefill',
    'prefill',
    'tokens',
    'tokens',
    'tokens',
    'ended',
    'finished',
  ]);
  expect(events[0]).toEqual({ t: 'prefill', done: 0, total: 3 });
  expect(events[1]).toEqual({ t: 'prefill', done: 3, total: 3 });
  expect(events[5]).toEqual({
    t: 'ended',
    choice: 0,
    reason: 'length',
    match: null,
    completionTokens: 3,
    reasoningTokens: 0,
  });
  await engine.close();
});

test('log-probabilities are numbers when asked for and NaN otherwise', async () => {
  const { engine } = make();
  const plain = request({ stop: { maxTokens: 1 } });
  const asked = request({ stop: { maxTokens: 1 }, logprobs: true, topLogprobs: 2 });
  engine.start(plain.request);
  engine.start(asked.request);
  await Promise.all([plain.over, asked.over]);
  const first = (events: typeof plain.events) =>
    events.flatMap((event) => (event.t === 'tokens' ? event.tokens : []))[0];
  expect(first(plain.events)).toMatchObject({ logprob: Number.NaN, top: [] });
  expect(first(asked.events)?.logprob).toBeLessThanOrEqual(0);
  expect(first(asked.events)?.top.length).toBe(2);
  await engine.close();
});

test.each([
  ['arithmetic that is not finite', 5, 'ENGINE_FAILURE'],
  ['want of memory', 3, 'MEMORY_EXHAUSTED'],
])('%s fails its request alone', async (_, poisonCode, reason) => {
  const probe = make();
  const sample = request({ prompt: [9], stop: { maxTokens: 3 } });
  probe.engine.start(sample.request);
  await sample.over;
  const poisonToken = tokensOf(sample.events)[2] as number;
  const { engine } = make({}, { poisonToken, poisonCode });
  const bad = request({ prompt: [9] });
  const good = request({ prompt: [10], stop: { maxTokens: 1 } });
  engine.start(bad.request);
  engine.start(good.request);
  expect(await bad.over).toMatchObject({
    t: 'failed',
    failure: { reason, message: 'logits are not finite' },
  });
  expect((await good.over).t).toBe('finished');
  expect(tokensOf(bad.events).length).toBe(2);
});

test('beyond the running places requests wait, learn their position, and run in order', async () => {
  const { engine } = make({ maxRunning: 1 });
  const all = [1, 2, 3].map((id) => request({ prompt: [id], stop: { maxTokens: 4 } }));
  expect(all.map(({ request: asked }) => engine.start(asked).queuePosition)).toEqual([0, 1, 2]);
  await Promise.all(all.map(({ over }) => over));
  expect(all[1]?.events.filter((event) => event.t === 'queued')).toEqual([]); // 1 was told by start()
  expect(all[2]?.events.filter((event) => event.t === 'queued')).toEqual([{ t: 'queued', position: 1 }]);
  await engine.close();
});

test('refusals: too long a prompt, more KV than there is, a full queue, each with its facts', () => {
  const { engine } = make({ maxRunning: 1, maxWaiting: 1, now: () => 0 }, { kvBlocks: 4, stepMs: null });
  const long = refusal(() => engine.start(request({ prompt: new Array(1024).fill(1) }).request));
  expect(long).toMatchObject({
    reason: 'CONTEXT_LENGTH_EXCEEDED',
    facts: { metadata: { prompt_tokens: '1024', context_length: '1024' } },
  });
  const wide = refusal(() => engine.start(request({ prompt: [1], stop: { maxTokens: 600 } }).request));
  expect(wide.reason).toBe('CONTEXT_LENGTH_EXCEEDED');
  expect(wide.message).toBe('prompt and max_tokens need 5 KV blocks of 128 tokens, the server has 4');
  engine.start(request().request);
  engine.start(request().request);
  const full = refusal(() => engine.start(request().request));
  expect(full).toMatchObject({ reason: 'QUEUE_FULL', facts: { metadata: { queue_depth: '2' }, retryAfterMs: 1000 } });
});

test.each(['queue', 'prefill', 'decode'] as const)(
  'aborted in %s: one last event with the reason, native forgets it',
  async (where) => {
    const { engine, runner } = make({ maxRunning: 1 }, { stepMs: null });
    const first = request({ prompt: [1], stop: { maxTokens: 100 } });
    const second = request({ prompt: [2] });
    engine.start(first.request);
    engine.start(second.request);
    await tick();
    if (where === 'decode') {
      runner.step();
      runner.onWake();
      expect(tokensOf(first.events).length).toBe(1);
    }
    const victim = where === 'queue' ? second : first;
    const reason = new Failure('DEADLINE_UNREACHABLE', 'too late');
    const before = victim.events.length;
    victim.abort(reason);
    runner.step();
    runner.onWake(); // reports of the step that crossed the abort
    await tick();
    expect(victim.events.slice(before)).toMatchObject([{ t: 'failed', failure: reason }]);
    runner.onWake();
    expect(runner.plans.at(-1)?.entries.map((entry) => entry.sequence)).toEqual([where === 'queue' ? 1 : 2]);
    expect(runner.stats().sequences).toBe(1);
  },
);

test('aborted before start, and aborted without a reason of ours', async () => {
  const { engine, runner } = make();
  const early = request();
  early.abort(new Failure('CANCELLED_BY_CALLER', 'asked to'));
  engine.start(early.request);
  expect(early.events).toEqual([]);
  expect(await early.over).toMatchObject({ failure: { message: 'asked to' } });
  const bare = request();
  engine.start(bare.request);
  bare.abort();
  expect(await bare.over).toMatchObject({
    failure: { reason: 'CANCELLED_BY_CALLER', message: 'the caller went away' },
  });
  expect(bare.events.length).toBe(1);
  expect(runner.plans.length).toBe(0);
});

test('a handler that aborts its own request hears only the failure after that', async () => {
  const { engine } = make();
  const reason = new Failure('CANCELLED_BY_CALLER', 'enough');
  const asked = request({
    stop: { maxTokens: 1 },
    onEvent: (event) => {
      if (event.t === 'tokens') asked.abort(reason);
    },
  });
  engine.start(asked.request);
  await asked.over;
  expect(asked.events.slice(-2).map((event) => event.t)).toEqual(['tokens', 'failed']);
});

test('a handler may start the next request', async () => {
  const { engine } = make();
  const second = request({ prompt: [8], stop: { maxTokens: 1 } });
  const first = request({
    onEvent: (event) => {
      if (event.t === 'finished') engine.start(second.request);
    },
  });
  engine.start(first.request);
  expect((await second.over).t).toBe('finished');
});

test('drain refuses new requests and resolves after the last running one', async () => {
  const { engine } = make();
  const running = request({ stop: { maxTokens: 20 } });
  engine.start(running.request);
  let drained = false;
  const done = engine.drain().then(() => {
    drained = true;
  });
  expect(refusal(() => engine.start(request().request)).reason).toBe('DRAINING');
  expect(drained).toBe(false);
  await running.over;
  await done;
  expect(tokensOf(running.events).length).toBe(20);
  await engine.drain();
  await engine.close();
});

test('drain of an idle engine resolves at once', async () => {
  await make().engine.drain();
});

test('close fails what runs and waits, once each, and is safe twice', async () => {
  const { engine } = make({ maxRunning: 1 });
  const all = [request({ stop: { maxTokens: 500 } }), request()];
  for (const { request: asked } of all) engine.start(asked);
  await tick();
  const drained = engine.drain();
  await Promise.all([engine.close(), engine.close()]);
  await drained;
  for (const { events } of all) {
    expect(events.filter((event) => event.t === 'failed')).toMatchObject([{ failure: { reason: 'DRAINING' } }]);
    expect(events.at(-1)?.t).toBe('failed');
  }
  all[0]?.abort();
  await tick();
  expect(all[0]?.events.filter((event) => event.t === 'failed').length).toBe(1);
  expect(refusal(() => engine.start(request().request)).reason).toBe('DRAINING');
  expect(engine.load().running).toBe(0);
});

test('stop conditions, choices and the reasoning limit arrive in the events', async () => {
  const { engine } = make({}, { tokenBytes: (id) => new TextEncoder().encode(`<${id}>`) });
  const free = request({ prompt: [5], stop: { maxTokens: 6 } });
  engine.start(free.request);
  await free.over;
  const ids = tokensOf(free.events);

  const byId = request({ prompt: [5], stop: { maxTokens: 6, tokenIds: [ids[2] as number] } });
  const text = new TextEncoder().encode(`${ids[0]}><${ids[1]}>`); // across a token border
  const byText = request({ prompt: [5], stop: { maxTokens: 6, sequences: [Uint8Array.of(1), text] } });
  const thinking = request({
    prompt: [5],
    stop: { maxTokens: 6 },
    reasoning: { startsInReasoning: true, endToken: 77, maxTokens: 2 },
  });
  const sampled = request({ prompt: [5], numChoices: 2, sampling: { ...greedy, temperature: 1, seed: 3 } });
  for (const asked of [byId, byText, thinking, sampled]) engine.start(asked.request);
  await Promise.all([byId, byText, thinking, sampled].map(({ over }) => over));
  const endOf = (made: typeof free) => made.events.find((event) => event.t === 'ended');
  expect(endOf(byId)).toMatchObject({ reason: 'stop', match: { t: 'token', tokenId: ids[2] }, completionTokens: 3 });
  expect(endOf(byText)).toMatchObject({ reason: 'stop', match: { t: 'sequence', index: 1 }, completionTokens: 2 });
  expect(tokensOf(thinking.events)[1]).toBe(77);
  expect(endOf(thinking)).toMatchObject({ reasoningTokens: 2, completionTokens: 6 });
  expect(tokensOf(sampled.events, 0)).not.toEqual(tokensOf(sampled.events, 1));
});

test('load tells rates over the last ten seconds and how long a newcomer waits', async () => {
  let now = 0;
  const { engine, runner } = make({ maxRunning: 1, maxWaiting: 4, now: () => now }, { stepMs: null });
  expect(engine.load()).toEqual({
    running: 0,
    waiting: 0,
    maxRunning: 1,
    maxWaiting: 4,
    waitingTokens: 0,
    expectedWaitMs: 0,
    decodeTokensPerSecond: 0,
    prefillTokensPerSecond: 0,
    prefillSpeed: 0,
  });
  engine.start(request({ prompt: new Array(100).fill(1), stop: { maxTokens: 21 } }).request);
  engine.start(request({ prompt: [1, 2, 3] }).request);
  await tick();
  for (let step = 0; step < 21; step++) {
    now += 100;
    runner.step();
    runner.onWake();
  }
  runner.onWake();
  now = 2500;
  const load = engine.load();
  expect(load.decodeTokensPerSecond).toBeCloseTo(20 / 2.5);
  expect(load.prefillTokensPerSecond).toBeCloseTo(100 / 2.5);
  expect(load.running).toBe(1); // the second took the place
  engine.start(request({ prompt: [1, 2, 3] }).request);
  expect(engine.load()).toMatchObject({ waiting: 1, waitingTokens: 3, expectedWaitMs: 2 * 2100 });
  expect(load.prefillSpeed).toBe(1000);
  now = 60_000;
  expect(engine.load()).toMatchObject({ decodeTokensPerSecond: 0, prefillSpeed: 1000 });
  await engine.close();
});
