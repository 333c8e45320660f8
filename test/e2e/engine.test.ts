// The TypeScript engine over the real addon and a small model: what the fake runner promises, native keeps.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { loadAddon } from '../../src/addon/load.js';
import { PlanEncoder } from '../../src/addon/plan-bytes.js';
import { NativeRunner } from '../../src/addon/runner.js';
import { Failure } from '../../src/base/failures.js';
import { NanduEngine } from '../../src/engine/engine.js';
import { definition, greedy, keepsNothing, planned, request, tokensOf } from '../fakes/requests.js';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const folder = mkdtempSync(join(tmpdir(), 'nandu-engine-'));
const model = join(folder, 'golden.gguf');

beforeAll(() => loadAddon().synth(model, { preset: 'golden' }, null));
afterAll(() => rmSync(folder, { recursive: true }));

async function open(maxRunning: number, maxWaiting = 10_000, kvBytes = 0) {
  const { runner, description } = await NativeRunner.open(loadAddon(), {
    model,
    numerics: 'reference',
    threads: 2,
    context: 0,
    kvBytes,
    maxSequences: maxRunning,
    isChecked: false,
  });
  const contextTokens = description.geometry.context;
  const engine = new NanduEngine(runner, {
    contextTokens,
    eosToken: null,
    maxRunning,
    maxWaiting,
    cache: keepsNothing,
  });
  return { runner, engine, description };
}
const prompt = (length: number, salt: number) => Array.from({ length }, (_, index) => (index * 31 + salt * 7) % 512);
const until = async (holds: () => boolean) => {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 1));
};

test('tokens of a request are the same alone and among fifteen others', async () => {
  const alone = await open(1);
  const answers: number[][] = [];
  const ask = (salt: number) =>
    request({
      prompt: prompt(20 + salt * 17, salt),
      stop: { maxTokens: 24 },
      sampling: { ...greedy, temperature: salt % 2, seed: salt },
    });
  for (let salt = 0; salt < 16; salt++) {
    const one = ask(salt);
    alone.engine.start(one.request);
    expect((await one.over).t).toBe('finished');
    answers.push(tokensOf(one.events));
  }
  await alone.engine.close();
  const crowd = await open(16);
  const all = Array.from({ length: 16 }, (_, index) => ask(15 - index));
  for (const { request: asked } of all) crowd.engine.start(asked);
  await Promise.all(all.map(({ over }) => over));
  expect(all.map(({ events }) => tokensOf(events)).reverse()).toEqual(answers);
  expect(answers.every((tokens) => tokens.length === 24)).toBe(true);
  await crowd.engine.close();
});

test('eight choices share a prompt and differ; log-probabilities are of the chosen and the best', async () => {
  const { engine } = await open(2);
  const many = request({
    prompt: prompt(140, 3),
    numChoices: 8,
    sampling: { ...greedy, temperature: 1.5, seed: 9 },
    stop: { maxTokens: 10 },
    logprobs: true,
    topLogprobs: 3,
  });
  engine.start(many.request);
  expect((await many.over).t).toBe('finished');
  const choices = Array.from({ length: 8 }, (_, choice) => tokensOf(many.events, choice).join(' '));
  expect(new Set(choices).size).toBeGreaterThan(4);
  expect(many.events.filter((event) => event.t === 'ended').length).toBe(8);
  for (const event of many.events) {
    if (event.t !== 'tokens') continue;
    for (const { logprob, top } of event.tokens) {
      expect(top.length).toBe(3);
      expect(logprob).toBeLessThanOrEqual((top[0] as { logprob: number }).logprob);
      expect(top[0]?.logprob).toBeGreaterThanOrEqual(top[1]?.logprob as number);
    }
  }
  await engine.close();
});

test('a thousand requests aborted at any moment leave no sequence and no block', async () => {
  const { engine, runner } = await open(4);
  const survivor = request({ prompt: prompt(50, 1), stop: { maxTokens: 400 } });
  engine.start(survivor.request);
  const ends: Promise<unknown>[] = [];
  for (let index = 0; index < 1000; index++) {
    const one = request({ prompt: prompt(1 + (index % 200), index), stop: { maxTokens: 1 + (index % 7) } });
    engine.start(one.request);
    ends.push(one.over);
    const abort = () => one.abort(new Failure('CANCELLED_BY_CALLER', 'gone'));
    if (index % 3 === 0) abort();
    else if (index % 3 === 1) setImmediate(abort);
    else setTimeout(abort, index % 5);
    if (index % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await Promise.all(ends);
  expect((await survivor.over).t).toBe('finished');
  expect(tokensOf(survivor.events).length).toBe(400);
  await until(() => runner.stats().sequences === 0);
  await new Promise((resolve) => setTimeout(resolve, 50)); // until the reports of the last releases are here
  expect(engine.kvCache.ram.stats).toMatchObject({ heldBlocks: 0, keptBlocks: 0, namedBlocks: 0, pointBytes: 0 });
  // All places are free again: as many as there are run at once.
  const last = Array.from({ length: 4 }, () => request({ stop: { maxTokens: 2 } }));
  expect(last.map(({ request: asked }) => engine.start(asked).queuePosition)).toEqual([0, 0, 0, 0]);
  await Promise.all(last.map(({ over }) => over));
  await engine.close();
});

test('requests that need more KV than there is at once wait for it, and all end', async () => {
  const { description } = await open(1).then(async (opened) => {
    await opened.engine.close();
    return opened;
  });
  const { engine, runner } = await open(8, 100, description.kv_block_bytes * 6);
  expect(runner.stats().kvBlocksLimit).toBe(6);
  const all = Array.from({ length: 12 }, (_, index) =>
    request({ prompt: prompt(300, index), stop: { maxTokens: 80 } }),
  );
  for (const { request: asked } of all) engine.start(asked); // 3 blocks each: two at a time
  const outcomes = await Promise.all(all.map(({ over }) => over));
  expect(outcomes.every((event) => event.t === 'finished')).toBe(true);
  expect(() => engine.start(request({ prompt: prompt(600, 1), stop: { maxTokens: 300 } }).request)).toThrow(
    'need 8 KV blocks of 128 tokens, the server has 6',
  );
  await engine.close();
});

test('closing in the middle of work ends everything, twice is once', async () => {
  const { engine, runner } = await open(4);
  const all = Array.from({ length: 8 }, (_, index) =>
    request({ prompt: prompt(500, index), stop: { maxTokens: 1000 } }),
  );
  for (const { request: asked } of all) engine.start(asked);
  await until(() => runner.stats().steps > 0);
  await Promise.all([engine.close(), engine.close()]);
  for (const { events } of all) expect(events.at(-1)?.t).toBe('failed');
});

test('a plan that native cannot read is an error of ours, thrown at once', async () => {
  const { engine } = await open(1);
  const addon = loadAddon();
  const handle = await addon.open(
    { model, numerics: 'reference', threads: 1, context: 0, kvBytes: 0, maxSequences: 1, isChecked: false },
    () => {},
  );
  expect(() => addon.submit(handle, new Uint8Array(5))).toThrow('plan: 5 bytes are shorter than its header');
  expect(() => addon.submit(handle, new Uint8Array(24))).toThrow('plan: bad magic');
  await addon.close(handle);
  await addon.close(handle);
  expect(() => addon.submit(handle, new Uint8Array(24))).toThrow('closed');
  await engine.close();
});

test('native reads every definition that the encoder can write', async () => {
  const addon = loadAddon();
  const handle = await addon.open(
    { model, numerics: 'reference', threads: 1, context: 0, kvBytes: 0, maxSequences: 99, isChecked: false },
    () => {},
  );
  const encoder = new PlanEncoder();
  const ids = (count: number) => Array.from({ length: count }, (_, index) => (index * 37) % 512);
  for (let number = 1; number <= 128; number++) {
    // Every residue of every tail's length, so that each padding is met.
    const definitions = [0, 1].map((second) => {
      const size = number + second * 3;
      const one = definition(number * 2 + second, 1 + (size % 9), {
        numChoices: 1 + (size % 8),
        sampling: { ...greedy, logitBias: new Map(ids(size % 4).map((id) => [id, id / 7])) },
        stop: {
          maxTokens: 0,
          tokenIds: ids((size >> 1) % 4),
          sequences: Array.from({ length: (size >> 2) % 4 }, (_, index) =>
            new Uint8Array(1 + ((size + index) % 11)).fill(65),
          ),
        },
      });
      // As many slots and points as there can be of either; none of these sequences writes a block that another reads.
      const slots = Array.from({ length: one.numChoices }, (_, index) => second * 8 + index);
      return planned(one, {
        slots,
        points: ids(size % 4).map((_, index) => (index + 1) * 128),
        keepsEnds: second === 1,
      });
    });
    const entries = definitions.map(({ sequence }) => ({ sequence, maxChunk: 0, point: (number % 3) * 128 }));
    addon.submit(handle, encoder.encode({ number, stepTokens: 64, entries, definitions }));
  }
  await addon.close(handle);
});
