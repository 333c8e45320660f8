// Preemption over the real engine: a request that had to leave goes on with the very tokens and log-probabilities, whatever its
// sampling, its stop strings and its reasoning remember; and a real server does it between its clients.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { loadAddon } from '../../src/addon/load.js';
import { NativeRunner } from '../../src/addon/runner.js';
import type { SequenceDefinition } from '../../src/engine/plan.js';
import type { Ended } from '../../src/engine/reports.js';
import type { GeneratedToken } from '../../src/engine/types.js';
import { definition, greedy, planned, unlimited } from '../fakes/requests.js';
import { KvServer, makeModel, temporaryFolder, tokensOf } from './kv/harness.mjs';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const folder = mkdtempSync(join(tmpdir(), 'nandu-preemption-'));
const model = join(folder, 'golden.gguf');

beforeAll(() => loadAddon().synth(model, { preset: 'golden' }, null));
afterAll(() => rmSync(folder, { recursive: true }));

interface Outcome {
  readonly tokens: GeneratedToken[];
  readonly end: Ended;
}

/** Runs sequences one after the other, from nothing. */
async function sequences() {
  const { runner } = await NativeRunner.open(loadAddon(), {
    model,
    numerics: 'reference',
    threads: 2,
    context: 0,
    kvBytes: 0,
    maxSequences: 1,
    isChecked: false,
  });
  let number = 0;
  let count = 0;
  const submit = (entries: { sequence: number; maxChunk: number; point: number }[], of: SequenceDefinition[]) => {
    number += 1;
    runner.submit({ number, stepTokens: 512, entries, definitions: of.map((one) => planned(one)) });
  };
  return {
    close: () => runner.close(),
    run: (changes: Partial<SequenceDefinition>): Promise<Outcome> =>
      new Promise((resolve, reject) => {
        count += 1;
        const tokens: GeneratedToken[] = [];
        let end: Ended | null = null;
        runner.onWake = () => {
          for (const report of runner.drain()) {
            if (report.t === 'tokens') tokens.push(...report.tokens);
            if (report.t === 'failed') reject(new Error(report.message));
            if (report.t === 'released') resolve({ tokens, end: end as Ended });
            if (report.t !== 'ended') continue;
            end = report.end;
            submit([], []);
          }
        };
        const one = { ...definition(count, 1), ...changes, sequence: count };
        submit([{ sequence: count, maxChunk: 0, point: 0 }], [one]);
      }),
  };
}

const base = {
  promptTokens: Uint32Array.from({ length: 140 }, (_, index) => (index * 37) % 500),
  logprobs: true,
  topLogprobs: 3,
};
const penalties = { presencePenalty: 0.7, frequencyPenalty: 0.4, repetitionPenalty: 1.3 };
const sampled = { ...greedy, ...penalties, temperature: 1.1, topP: 0.98, seed: 77 };

test.each<[string, Partial<SequenceDefinition>]>([
  ['greedy', { stop: { ...unlimited, maxTokens: 40 } }],
  ['drawn with a seed and all penalties', { sampling: sampled, stop: { ...unlimited, maxTokens: 40 } }],
  [
    'in reasoning that is cut off',
    {
      sampling: sampled,
      stop: { ...unlimited, maxTokens: 40, minTokens: 30 },
      reasoning: { startsInReasoning: true, endToken: 9, maxTokens: 17 },
    },
  ],
  ['up to the end of the context', { contextTokens: 165, stop: { ...unlimited, maxTokens: 400 } }],
])('an answer goes on bit for bit from any token: %s', async (_, changes) => {
  const native = await sequences();
  const whole = await native.run({ ...base, ...changes });
  expect(whole.tokens.length).toBeGreaterThan(20);
  for (let cut = 1; cut < whole.tokens.length; cut += cut < 20 ? 1 : 7) {
    const generated = whole.tokens.slice(0, cut).map(({ id }) => id);
    const promptTokens = Uint32Array.from([...base.promptTokens, ...generated]);
    const rest = await native.run({ ...base, ...changes, promptTokens, numGenerated: cut });
    expect(rest.tokens).toEqual(whole.tokens.slice(cut));
    expect(rest.end).toEqual(whole.end);
  }
  await native.close();
});

test('a definition that goes on behind its end, or with choices, is refused and hurts nobody', async () => {
  const native = await sequences();
  const ended = { ...base, numGenerated: 5, stop: { ...unlimited, maxTokens: 5 } };
  await expect(native.run(ended)).rejects.toThrow('goes on behind its end');
  await native.close();
});

test('a server lets an interactive request pass, and the background answer is the same bits', async () => {
  const place = temporaryFolder('preemption');
  const settings = {
    model: makeModel(place.path, 'words'),
    dir: join(place.path, 'kv'),
    flags: ['--max-running', '1', '--default-max-tokens', '64'],
  };
  const server = await KvServer.start(settings);
  const stop = { maxTokens: 1500, ignoreEos: true, sequences: ['never said\n\n\n'] };
  const asked = (priority: string, seed: number, maxTokens: number, scope: string) => ({
    tokenIds: { ids: tokensOf(300, seed) },
    sampling: { temperature: 0.9, seed: 3, presencePenalty: 0.5 },
    stop: { ...stop, maxTokens },
    output: { tokenIds: true, logprobs: true, topLogprobs: 2 },
    cache: { mode: 'CACHE_MODE_READ_WRITE', scope },
    priority,
  });
  const order: string[] = [];
  const ask = async (priority: string, seed: number, maxTokens: number, scope = 'crowd') => {
    const answer = await server.call('GenerationService', 'generate', asked(priority, seed, maxTokens, scope));
    order.push(priority);
    return answer;
  };
  const background = ask('PRIORITY_BACKGROUND', 1, 1500);
  for (let running = 0; running === 0; )
    ({
      load: { runningRequests: running },
    } = await server.call('AdminService', 'getLoad', {}));
  const interactive = [2, 3, 4].map((seed) => ask('PRIORITY_INTERACTIVE', seed, 8));
  const [cut] = await Promise.all([background, ...interactive]);
  expect(order.at(-1)).toBe('PRIORITY_BACKGROUND');
  const alone = await ask('PRIORITY_BACKGROUND', 1, 1500, 'alone');
  expect(cut.choices).toEqual(alone.choices);
  expect(cut.usage.completionTokens).toBe(1500);
  await server.stop();
  place.remove();
});
