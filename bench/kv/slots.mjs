// The first token behind a prefix that is on the disk, nandu against llama-server's slot files: the same model file, the same
// prefix, the same new tokens, the same threads. Each engine computes the prefix once; then, in turns, in a process just
// started, with the model file in the page cache and the KV files not in it: nandu is sent prefix + new tokens; llama-server is
// told to restore its slot file and then sent prefix + new tokens. Timed at the client, from the first request to the answer of
// one token.
//   bench/kv/llama-server.sh                                            builds llama-server (once)
//   node bench/kv/slots.mjs --model /tmp/m/medium.gguf --llama PATH [--prefix 8192] [--tail 16] [--rounds 5] [--threads 2]
//                           [--kv-type f32|f16] [--keep DIR]
// --keep: what was computed stays in DIR, and the next run with it begins with the rounds.
//
// llama-server keeps a prefix in three ways, all measured:
// window   as it comes: the file has the last window only, and after a restore `deepseek4` starts over (this build looks for a
//          checkpoint, which slot files do not have). What it would keep is asked of the server, the computing is not awaited.
// full     with --swa-full while saving and restoring: a bigger file, and only the new tokens are computed.
// mixed    the window's small file, restored by a server with --swa-full: nowhere documented, and the fastest it can do.
import { execFileSync, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { disturbance, gate, machine, median, options, prompt, rounded, sleep, warm, watched } from '../engine/lib.mjs';
import { Server } from '../engine/server.mjs';

const flags = options(import.meta.url, {
  ...{ model: '/tmp/m/medium.gguf', llama: join(homedir(), '.cache/nandu/llama/build/bin/llama-server') },
  ...{ prefix: 8192, tail: 16, rounds: 5, threads: 2, vocab: 32000, 'kv-type': 'f32', keep: '' },
});
if (!existsSync(flags.llama)) {
  console.error(`${flags.llama} is not there; build it: bench/kv/llama-server.sh [DIR], and give --llama`);
  process.exit(66);
}
const [prefix, tail, vocab] = [flags.prefix, flags.tail, flags.vocab].map(Number);
const folder = flags.keep ? resolve(flags.keep) : mkdtempSync(join(tmpdir(), 'nandu-bench-slots-'));
const kvDir = join(folder, 'kv');
const slotsDir = join(folder, `slots-${statSync(flags.model).size}-${prefix}-${flags['kv-type']}`);
for (const dir of [kvDir, slotsDir]) mkdirSync(dir, { recursive: true });
const common = prompt(prefix, 1, vocab);
const withTail = (seed) => [...common, ...prompt(tail, 1000 + seed, vocab)];
const unrelated = [...prompt(256, 77, vocab)];

/** Takes files out of the page cache, and makes sure of it. */
function chill(dir) {
  for (const name of readdirSync(dir)) {
    const file = join(dir, name);
    if (!statSync(file).isFile()) continue;
    execFileSync('sync', [file]);
    execFileSync('dd', [`if=${file}`, 'iflag=nocache', 'count=0', 'status=none']);
    const pages = Number(execFileSync('fincore', ['--noheadings', '--output', 'PAGES', file], { encoding: 'utf8' }));
    if (pages > 0) throw new Error(`${file} is still in the page cache: ${pages} pages`);
  }
}

async function timed(work) {
  const begin = performance.now();
  const result = await work();
  return { result, ms: performance.now() - begin };
}

// ---- nandu

async function startNandu() {
  const server = new Server(flags.model, flags.threads, ['--kv-dir', kvDir, '--kv-memory', '0']);
  const attached = server.logged('the prompt cache uses its disk');
  await server.serving;
  await attached;
  const client = await server.client();
  const ask = (ids, mode) => {
    const request = {
      token_ids: { ids },
      sampling: { temperature: 0 },
      stop: { max_tokens: 1, ignore_eos: true },
      cache: { mode },
      output: { timings: true },
    };
    return new Promise((resolve, reject) =>
      client.Generate(request, (error, response) => (error ? reject(error) : resolve(response))),
    );
  };
  await ask(unrelated, 'CACHE_MODE_BYPASS');
  return { server, ask };
}

const spanMs = ({ seconds = 0, nanos = 0 } = {}) => Number(seconds) * 1e3 + nanos / 1e6;

/** Seconds that it took; hardly any when the directory has the prefix already. */
async function makeNandu() {
  const { server, ask } = await startNandu();
  const { ms } = await timed(() => ask(withTail(0), 'CACHE_MODE_READ_WRITE'));
  await sleep(2500); // longer than a group commit waits
  await server.stop();
  return ms / 1e3;
}

async function roundOfNandu(seed) {
  const { server, ask } = await startNandu();
  chill(kvDir);
  const { result: measured, others } = await watched([server.process.pid], () =>
    timed(() => ask(withTail(seed), 'CACHE_MODE_READ_ONLY')),
  );
  await server.stop();
  const { usage, timings } = measured.result;
  if (usage.hit_disk_tokens !== Math.floor(prefix / 128) * 128)
    throw new Error(`nandu had ${usage.hit_disk_tokens} of ${prefix} tokens on its disk`);
  return {
    ...{ firstTokenMs: measured.ms, restoreMs: spanMs(timings.restore), others },
    ...{ bytes: Number(timings.kv_bytes_read), computed: usage.prompt_cache_miss_tokens },
  };
}

// ---- llama-server

const freePort = () =>
  new Promise((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const { port } = probe.address();
      probe.close(() => resolve(port));
    });
  });

async function startLlama(full) {
  const port = await freePort();
  const process = spawn(
    flags.llama,
    [
      ...['--model', flags.model, '--host', '127.0.0.1', '--port', String(port), '--no-ui', '--offline'],
      ...['--ctx-size', String(prefix + 512), '--parallel', '1', '--cache-ram', '0', '--slot-save-path', slotsDir],
      ...['--threads', flags.threads, '--threads-batch', flags.threads, '--no-repack', '--flash-attn', 'off'],
      ...['--cache-type-k', flags['kv-type'], '--cache-type-v', flags['kv-type'], ...(full ? ['--swa-full'] : [])],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const said = [];
  createInterface({ input: process.stderr }).on('line', (line) => said.push(line) > 20 && said.shift());
  let code;
  const gone = new Promise((resolve) =>
    process.once('exit', (status) => {
      code = status ?? -1;
      resolve();
    }),
  );
  const url = `http://127.0.0.1:${port}`;
  const post = (path, body, signal) =>
    fetch(url + path, {
      method: 'POST',
      body: JSON.stringify(body),
      headers: { 'content-type': 'application/json' },
      signal,
    });
  async function ask(path, body) {
    const response = await post(path, body);
    const answer = await response.json();
    if (!response.ok) throw new Error(`llama-server: ${path}: ${JSON.stringify(answer)}`);
    return answer;
  }
  const completion = (ids, more = {}) => ({
    ...{ prompt: ids, id_slot: 0, n_predict: 1, temperature: 0, ignore_eos: true, cache_prompt: true, ...more },
  });
  while (
    !(await fetch(`${url}/health`).then(
      ({ ok }) => ok,
      () => false,
    ))
  ) {
    if (code !== undefined) throw new Error(`llama-server: exit ${code}\n${said.join('\n')}`);
    await sleep(100);
  }
  return {
    pid: process.pid,
    complete: (ids) => ask('/completion', completion(ids)),
    slot: (action, filename) => ask(`/slots/0?action=${action}`, { filename }),
    /** How many tokens of the prompt it keeps; the rest is not awaited. */
    async kept(ids) {
      const controller = new AbortController();
      const { body } = await post(
        '/completion',
        completion(ids, { stream: true, return_progress: true }),
        controller.signal,
      );
      let text = '';
      for await (const piece of body) {
        text += Buffer.from(piece).toString();
        const found = /"prompt_progress":(\{[^}]*\})/.exec(text);
        if (!found) continue;
        const { cache } = JSON.parse(found[1]);
        controller.abort();
        return cache;
      }
      throw new Error('llama-server: no progress came');
    },
    async stop() {
      process.kill('SIGTERM');
      await Promise.race([gone, sleep(10_000).then(() => process.kill('SIGKILL'))]);
      await gone;
    },
  };
}

const slotFile = (full) => (full ? 'full.slot' : 'window.slot');

/** Seconds of computing and of saving, once for each kind of file. */
async function makeLlama(full) {
  const facts = join(slotsDir, `${slotFile(full)}.json`);
  if (existsSync(facts)) return JSON.parse(readFileSync(facts, 'utf8'));
  const server = await startLlama(full);
  const { ms } = await timed(() => server.complete([...common]));
  const { n_saved, n_written, timings } = await server.slot('save', slotFile(full));
  await server.stop();
  if (n_saved !== prefix) throw new Error(`llama-server saved ${n_saved} of ${prefix} tokens`);
  const made = { compute_seconds: rounded(ms / 1e3), save_ms: timings.save_ms, slot_bytes: n_written };
  writeFileSync(facts, JSON.stringify(made));
  return made;
}

async function roundOfLlama(seed, { file, full }) {
  const server = await startLlama(full);
  await server.complete(unrelated);
  chill(slotsDir);
  const { result, others } = await watched([server.pid], async () => ({
    restore: await timed(() => server.slot('restore', file)),
    completion: await timed(() => server.complete(withTail(seed))),
  }));
  await server.stop();
  const { restore, completion } = result;
  return {
    ...{ firstTokenMs: restore.ms + completion.ms, restoreMs: restore.ms, completionMs: completion.ms, others },
    ...{ bytes: restore.result.n_read, computed: completion.result.timings.prompt_n },
  };
}

/** The restore of llama-server as it comes, and what it keeps of it. */
async function roundOfWindow(seed) {
  const server = await startLlama(false);
  await server.complete(unrelated);
  chill(slotsDir);
  const { result: restore, others } = await watched([server.pid], () =>
    timed(() => server.slot('restore', slotFile(false))),
  );
  const kept = await server.kept(withTail(seed));
  await server.stop();
  return { restoreMs: restore.ms, bytes: restore.result.n_read, kept, others };
}

// ---- the comparison

warm(flags.model);
const nanduSeconds = await makeNandu();
const made = { window: await makeLlama(false), full: await makeLlama(true) };
warm(flags.model);
const sides = {
  nandu: (seed) => roundOfNandu(seed),
  full: (seed) => roundOfLlama(seed, { file: slotFile(true), full: true }),
  mixed: (seed) => roundOfLlama(seed, { file: slotFile(false), full: true }),
  window: (seed) => roundOfWindow(seed),
};
const rounds = [];
for (let index = 0; index < Number(flags.rounds); index++) {
  const names = Object.keys(sides);
  if (index % 2) names.reverse();
  const round = {};
  for (const name of names) round[name] = await sides[name](100 + index);
  rounds.push(round);
}
const of = (side, key) => rounded(median(rounds.map((round) => round[side][key])));
const ratio = (key, side, otherKey = key) => median(rounds.map((round) => round.nandu[key] / round[side][otherKey]));
const llama = (side) => ({
  first_token_ms: of(side, 'firstTokenMs'),
  ...{ restore_ms: of(side, 'restoreMs'), completion_ms: of(side, 'completionMs') },
  ...{ read_bytes: of(side, 'bytes'), computed_tokens: of(side, 'computed') },
});
console.log(
  JSON.stringify(
    {
      bench: 'kv/slots',
      ...machine(),
      ...{ prefix, tail, rounds: rounds.length, threads: Number(flags.threads), llama_kv_type: flags['kv-type'] },
      others_at_most: disturbance(rounds.flatMap(Object.values)),
      nandu: {
        ...{ first_token_ms: of('nandu', 'firstTokenMs'), restore_ms: of('nandu', 'restoreMs') },
        ...{ read_bytes: of('nandu', 'bytes'), computed_tokens: of('nandu', 'computed') },
      },
      llama_full: llama('full'),
      llama_mixed: llama('mixed'),
      llama_window: {
        ...{
          restore_ms: of('window', 'restoreMs'),
          read_bytes: of('window', 'bytes'),
          kept_tokens: of('window', 'kept'),
        },
        starts_over: of('window', 'kept') === 0,
      },
      // How long each took for the prefix: nandu's is that of this run (milliseconds when --keep had it), llama's of the first.
      prefix_seconds: { nandu: rounded(nanduSeconds), llama: made },
      first_token_ratio: gate(ratio('firstTokenMs', 'full'), { atMost: 1 }),
      first_token_ratio_mixed: gate(ratio('firstTokenMs', 'mixed'), { atMost: 1 }),
      restore_ratio: rounded(ratio('restoreMs', 'full')),
      restore_ratio_mixed: rounded(ratio('restoreMs', 'mixed')),
      restore_ratio_window: rounded(ratio('restoreMs', 'window')),
    },
    null,
    2,
  ),
);
if (!flags.keep) rmSync(folder, { recursive: true, force: true });
