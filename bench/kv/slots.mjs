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
// The new tokens follow exactly what llama-server has saved: then it computes them alone. With one other token at the end of the
// prefix it keeps nothing of a `deepseek4` slot; what each keeps is asked last, and the computing is not awaited.
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
import { request } from 'node:http';
import { createServer } from 'node:net';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import {
  disturbance,
  gate,
  machine,
  median,
  options,
  prompt,
  rounded,
  sleep,
  spanMs,
  warm,
  watched,
} from '../engine/lib.mjs';
import { call, generate, Server } from '../engine/server.mjs';

const flags = options(import.meta.url, {
  ...{ prefix: 8192, tail: 16, rounds: 5, vocab: 32000, 'kv-type': 'f32', keep: '' },
  llama: join(homedir(), '.cache/nandu/llama/build/bin/llama-server'),
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
  const server = await Server.withDisk(flags.model, flags.threads, kvDir, ['--kv-memory', '0']);
  const client = await server.client();
  const ask = (ids, mode) => generate(client, ids, 1, mode);
  await ask(unrelated, 'CACHE_MODE_BYPASS');
  return { server, ask };
}

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

async function startLlama() {
  const port = await freePort();
  const child = spawn(
    flags.llama,
    [
      ...['--model', flags.model, '--host', '127.0.0.1', '--port', String(port), '--no-ui', '--offline'],
      ...['--ctx-size', String(prefix + 512), '--parallel', '1', '--cache-ram', '0', '--slot-save-path', slotsDir],
      ...['--threads', flags.threads, '--threads-batch', flags.threads, '--no-repack', '--flash-attn', 'off'],
      ...['--cache-type-k', flags['kv-type'], '--cache-type-v', flags['kv-type']],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill); // nothing stays behind when this bench fails
  const said = [];
  createInterface({ input: child.stderr }).on('line', (line) => said.push(line) > 20 && said.shift());
  let code;
  const gone = new Promise((resolve) =>
    child.once('exit', (status) => {
      process.off('exit', kill);
      code = status ?? -1;
      resolve();
    }),
  );
  // Not fetch: it gives up after five minutes without an answer, and a prefix may take longer.
  const send = (method, path, body) =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json' };
      const sent = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, resolve);
      sent.once('error', reject).end(body && JSON.stringify(body));
    });
  async function ask(path, body) {
    const response = await send('POST', path, body);
    const answer = (await response.toArray()).join('');
    if (response.statusCode !== 200) throw new Error(`llama-server: ${path}: ${answer}`);
    return JSON.parse(answer);
  }
  const isHealthy = () =>
    send('GET', '/health').then(
      (response) => response.resume().statusCode === 200,
      () => false,
    );
  const completion = (ids, more = {}) => ({
    ...{ prompt: ids, id_slot: 0, n_predict: 1, temperature: 0, ignore_eos: true, cache_prompt: true, ...more },
  });
  while (!(await isHealthy())) {
    if (code !== undefined) throw new Error(`llama-server: exit ${code}\n${said.join('\n')}`);
    await sleep(100);
  }
  return {
    pid: child.pid,
    complete: (ids) => ask('/completion', completion(ids)),
    slot: (action, filename) => ask(`/slots/0?action=${action}`, { filename }),
    /** How many tokens of the prompt it keeps; the rest is not awaited. */
    async kept(ids) {
      const answer = await send('POST', '/completion', completion(ids, { stream: true, return_progress: true }));
      let text = '';
      for await (const piece of answer) {
        text += piece;
        const found = /"prompt_progress":(\{[^}]*\})/.exec(text);
        if (found) return JSON.parse(found[1]).cache; // and leaving the loop hangs up
      }
      throw new Error('llama-server: no progress came');
    },
    async stop() {
      child.kill('SIGTERM');
      await Promise.race([gone, sleep(10_000).then(() => child.kill('SIGKILL'))]);
      await gone;
    },
  };
}

const SLOT = 'prefix.slot';

/** What computing and saving took, once. */
async function makeLlama() {
  const facts = join(slotsDir, 'made.json');
  if (existsSync(facts)) return JSON.parse(readFileSync(facts, 'utf8'));
  const server = await startLlama();
  const { ms } = await timed(() => server.complete([...common]));
  const { n_saved, n_written, timings } = await server.slot('save', SLOT);
  await server.stop();
  if (n_saved !== prefix) throw new Error(`llama-server saved ${n_saved} of ${prefix} tokens`);
  const made = { seconds: rounded(ms / 1e3), save_ms: timings.save_ms, slot_bytes: n_written };
  writeFileSync(facts, JSON.stringify(made));
  return made;
}

async function roundOfLlama(seed) {
  const server = await startLlama();
  await server.complete(unrelated);
  chill(slotsDir);
  const { result, others } = await watched([server.pid], async () => ({
    restore: await timed(() => server.slot('restore', SLOT)),
    completion: await timed(() => server.complete(withTail(seed))),
  }));
  await server.stop();
  const { restore, completion } = result;
  return {
    ...{ firstTokenMs: restore.ms + completion.ms, restoreMs: restore.ms, completionMs: completion.ms, others },
    ...{ bytes: restore.result.n_read, computed: completion.result.timings.prompt_n },
  };
}

/** Tokens that each keeps of the prefix when its last one is another. */
async function keptWhenLastDiffers() {
  const ids = withTail(99);
  ids[prefix - 1] = (ids[prefix - 1] + 1) % vocab;
  const llama = await startLlama();
  await llama.slot('restore', SLOT);
  const keptByLlama = await llama.kept(ids);
  await llama.stop();
  const { server } = await startNandu();
  const cache = await server.client('CacheService');
  const { plan } = await call(cache, 'ProbePrefix', { prompt: { token_ids: { ids } } });
  await server.stop();
  return { nandu: plan.hit_disk_tokens ?? 0, llama: keptByLlama };
}

// ---- the comparison

warm(flags.model);
const nanduSeconds = await makeNandu();
const llamaMade = await makeLlama();
warm(flags.model);
const sides = { nandu: roundOfNandu, llama: roundOfLlama };
const rounds = [];
for (let index = 0; index < Number(flags.rounds); index++) {
  const names = Object.keys(sides);
  if (index % 2) names.reverse();
  const round = {};
  for (const name of names) round[name] = await sides[name](100 + index);
  rounds.push(round);
}
const kept = await keptWhenLastDiffers();
const of = (side, key) => rounded(median(rounds.map((round) => round[side][key])));
const ratio = (ours, theirs = ours) => median(rounds.map(({ nandu, llama }) => nandu[ours] / llama[theirs]));
const figures = (side) => ({
  ...{ first_token_ms: of(side, 'firstTokenMs'), restore_ms: of(side, 'restoreMs') },
  ...{ read_bytes: of(side, 'bytes'), computed_tokens: of(side, 'computed') },
});
console.log(
  JSON.stringify(
    {
      bench: 'kv/slots',
      ...machine(),
      ...{ prefix, tail, rounds: rounds.length, threads: Number(flags.threads), llama_kv_type: flags['kv-type'] },
      others_at_most: disturbance(rounds.flatMap(Object.values)),
      nandu: figures('nandu'),
      llama: { ...figures('llama'), completion_ms: of('llama', 'completionMs') },
      // What the prefix took: nandu's seconds are of this run (few when --keep had it), llama's of the run that made the file.
      made: { nandu: { seconds: rounded(nanduSeconds) }, llama: llamaMade },
      first_token_ratio: gate(ratio('firstTokenMs'), { atMost: 1 }),
      first_token_against_restore_alone: rounded(ratio('firstTokenMs', 'restoreMs')),
      restore_ratio: rounded(ratio('restoreMs')),
      kept_when_last_token_differs: kept,
    },
    null,
    2,
  ),
);
if (!flags.keep) rmSync(folder, { recursive: true, force: true });
