// The addon in worker threads and at the end of a process: whatever native is doing, no thread outlives its environment, the
// process ends by itself and says nothing. And a model file that shrinks under a running engine ends it with a line.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { loadAddon } from '../../src/addon/load.js';
import { PlanEncoder } from '../../src/addon/plan-bytes.js';
import { definition, planned } from '../fakes/requests.js';

const scratch = mkdtempSync(join(tmpdir(), 'nandu-teardown-'));
const model = join(scratch, 'golden.gguf');
const addonPath = join(import.meta.dirname, '../../build/Release/nandu.node');

beforeAll(() => loadAddon().synth(model, { preset: 'golden' }, null));
afterAll(() => rmSync(scratch, { recursive: true }));

/** A plan of one sequence that generates for minutes, as bytes. */
function endlessPlan(): string {
  const asked = planned(definition(1, 40, { stop: { maxTokens: 1_000_000 }, contextTokens: 2_000_000 }));
  const plan = { number: 1, stepTokens: 64, entries: [{ sequence: 1, maxChunk: 0, point: 0 }], definitions: [asked] };
  return Buffer.from(new PlanEncoder().encode(plan)).toString('base64');
}

/** What every script may use: `addon`, `options`, and `generate()`, which resolves when tokens flow. */
const PRELUDE = `
  const addon = require(${JSON.stringify(addonPath)});
  const options = { model: ${JSON.stringify(model)}, numerics: 'reference', threads: 2, context: 0, kvBytes: 0 };
  let closed = false; // a call that says "reports wait" may come behind close
  const generate = async () => {
    const into = new Uint8Array(1 << 18);
    let drains = 0, flows;
    const flowing = new Promise((resolve) => { flows = resolve; });
    const handle = await addon.open(options, () => {
      while (!closed && addon.drain(handle, into) > 0) if (++drains === 20) flows();
    });
    addon.submit(handle, Uint8Array.from(Buffer.from('PLAN', 'base64')));
    await flowing;
    return handle;
  };`;

function run(script: string) {
  const { status, signal, stderr } = spawnSync(process.execPath, ['-e', script.replaceAll('PLAN', endlessPlan())], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  return { status, signal, stderr };
}
const CLEAN = { status: 0, signal: null, stderr: '' };

/** Two workers at a time run `body`, which says 'now' when they are to be terminated. The main thread never loads the addon. */
const inWorkers = (body: string, rounds: number) => `
  const { Worker } = require('node:worker_threads');
  const source = ${JSON.stringify(`const { parentPort } = require('node:worker_threads');${PRELUDE}\n${body}`)};
  const one = () => new Promise((resolve, reject) => {
    const worker = new Worker(source, { eval: true });
    worker.on('error', reject);
    worker.on('message', () => worker.terminate().then(resolve));
  });
  (async () => { for (let round = 0; round < ${rounds}; round++) await Promise.all([one(), one()]); })();`;

test.each([
  ['generates', "generate().then(() => parentPort.postMessage('now'));"],
  ['opens a model', "addon.open(options, () => {}); parentPort.postMessage('now');"],
  ['scores', "addon.score({ ...options, tokens: new Uint32Array(600), chunk: 8 }); parentPort.postMessage('now');"],
  [
    'closes an engine',
    "generate().then((handle) => { closed = true; addon.close(handle); parentPort.postMessage('now'); });",
  ],
])('worker threads that are terminated while native %s leave a process that ends cleanly', (_, body) => {
  expect(run(inWorkers(body, 5))).toEqual(CLEAN);
});

test('a process may exit in the middle of generation', () => {
  expect(run(`${PRELUDE} generate().then(() => process.exit(0));`)).toEqual(CLEAN);
});

test('an engine that nobody holds any more stops, and its process ends by itself', () => {
  const script = `${PRELUDE}
    require('node:v8').setFlagsFromString('--expose-gc');
    const gc = require('node:vm').runInNewContext('gc');
    (async () => {
      await addon.open(options, () => {});
      for (let round = 0; round < 5; round++) { await new Promise(setImmediate); gc(); }
    })();`;
  expect(run(script)).toEqual(CLEAN);
});

test('a model file that is truncated under a running engine ends the process with a line that names it, exit 66', () => {
  const copy = join(scratch, 'shrinks.gguf');
  const script = `${PRELUDE}
    const fs = require('node:fs');
    fs.copyFileSync(options.model, ${JSON.stringify(copy)});
    options.model = ${JSON.stringify(copy)};
    generate().then(() => fs.truncateSync(options.model, 4096));
    setTimeout(() => {}, 30_000);`;
  expect(run(script)).toEqual({
    status: 66,
    signal: null,
    stderr: `nandu: model file ${copy} was truncated or became unreadable while it was in use\n`,
  });
});
