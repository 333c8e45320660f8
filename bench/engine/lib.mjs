// What the whole-model benches share: arguments, figures, the machine, prompts, and nandu's TypeScript engine driven in
// this process. Nothing here measures anything by itself.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { loadavg } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

export const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
export const nandu = join(root, 'bin/nandu.js');

/** What every bench of a whole model can be told. */
const COMMON_OPTIONS = { model: '/tmp/m/medium.gguf', threads: 2 };

/** Options by name with their defaults, all strings, the common ones too; `--help` prints the head comment of the script. */
export function options(script, defaults) {
  const known = Object.fromEntries(
    Object.entries({ ...COMMON_OPTIONS, ...defaults }).map(([name, value]) => [
      name,
      { type: 'string', default: String(value) },
    ]),
  );
  const { values } = parseArgs({ options: { ...known, help: { type: 'boolean' } } });
  if (values.help) {
    const lines = readFileSync(fileURLToPath(script), 'utf8').split('\n');
    const end = lines.findIndex((line) => !line.startsWith('//'));
    console.log(
      lines
        .slice(0, end)
        .map((line) => line.replace(/^\/\/ ?/, ''))
        .join('\n'),
    );
    process.exit(0);
  }
  if (!existsSync(values.model)) {
    console.error(`${values.model} is not there; make it: node bin/nandu.js synth ${values.model} --preset medium`);
    process.exit(66);
  }
  return values;
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export const rounded = (value, digits = 4) => Number(value.toPrecision(digits));

/** A figure with its gate: `met` says whether it holds. */
export function gate(value, { atLeast, atMost }) {
  const target = atLeast ?? atMost;
  return { value: rounded(value), target, met: atLeast === undefined ? value <= atMost : value >= atLeast };
}

export function machine() {
  const cpu = /model name\s*:\s*(.*)/.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? 'unknown';
  const commit = execFileSync('git', ['-C', root, 'rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  return { cpu, commit, load_average: loadavg()[0] };
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** CPU seconds so far of a process or thread, by its stat file. */
export function cpuOf(path) {
  const fields = readFileSync(path, 'utf8').split(') ')[1].split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

/**
 * CPU seconds so far of a process that computes: its JavaScript thread, the engine's own threads, and all others (V8's
 * helpers, libuv's pool). Finer than stat files, which count hundredths of a second.
 */
export function cpuByPart(pid) {
  const parts = { javascript: 0, engine: 0, other: 0 };
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${thread}`;
    const isEngine = readFileSync(`${folder}/comm`, 'utf8').startsWith('nandu-');
    const part = Number(thread) === pid ? 'javascript' : isEngine ? 'engine' : 'other';
    parts[part] += Number(readFileSync(`${folder}/schedstat`, 'utf8').split(' ', 1)[0]) / 1e9;
  }
  return parts;
}

/** A google.protobuf.Duration; 0 without one. */
export function spanMs({ seconds = 0, nanos = 0 } = {}) {
  return Number(seconds) * 1e3 + nanos / 1e6;
}

/** CPU seconds of the whole machine's busy time, of idle time, and of these processes. */
function cpuSeconds(pids) {
  const [user, nice, system, idle, iowait, irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split('\n', 1)[0]
    .trim()
    .split(/\s+/)
    .slice(1)
    .map((jiffies) => Number(jiffies) / 100);
  const own = pids.reduce((sum, pid) => sum + cpuOf(`/proc/${pid}/stat`), 0);
  return { busy: user + nice + system + irq + softirq + steal, idle: idle + iowait, own };
}

/** Share of the machine's CPU that others (processes not in `pids`, the hypervisor) took while `work` ran. */
export async function watched(pids, work) {
  const before = cpuSeconds(pids);
  const result = await work();
  const after = cpuSeconds(pids);
  const busy = after.busy - before.busy;
  const others = busy - (after.own - before.own);
  return { result, others: Math.max(0, others) / (busy + after.idle - before.idle) };
}

/**
 * Repeats `round` until `count` of them ran with others taking at most `MOST_OTHERS` of the machine, or for `seconds`;
 * gives the `count` quietest, each with `others`. `round` takes its number; its parts take turns inside.
 */
const MOST_OTHERS = 0.03;
export async function quietRounds(count, seconds, pids, round) {
  const rounds = [];
  const begin = performance.now();
  for (let index = 0; ; index++) {
    const { result, others } = await watched(pids, () => round(index));
    rounds.push({ ...result, others });
    const quiet = rounds.filter((one) => one.others <= MOST_OTHERS).length;
    const spent = (performance.now() - begin) / 1000;
    if (quiet >= count || (rounds.length >= count && spent > seconds)) break;
  }
  return rounds.sort((a, b) => a.others - b.others).slice(0, count);
}

/** What stands beside every figure made of rounds: how disturbed they were. */
export const disturbance = (rounds) => rounded(Math.max(...rounds.map((round) => round.others)), 2);

/** `count` token ids below `vocab`, the same for the same seed. */
export function prompt(count, seed, vocab = 32000) {
  let state = (seed * 2654435761 + 12345) >>> 0;
  return Uint32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % vocab;
  });
}

/** Reads the whole file once, so that the page cache holds it. */
export function warm(file) {
  execFileSync('dd', [`if=${file}`, 'of=/dev/null', 'bs=16M'], { stdio: 'ignore' });
}

const load = (path) => import(pathToFileURL(join(root, 'dist', path)).href);

/** nandu's engine in this process, as src/cli/served-model.ts opens it. */
export async function openEngine(model, { threads, context = 0, maxRunning = 16 }) {
  const [{ loadAddon }, { NativeRunner }, { NanduEngine }, { cacheConfig }] = await Promise.all([
    load('addon/load.js'),
    load('addon/runner.js'),
    load('engine/engine.js'),
    load('cli/kv.js'),
  ]);
  const { runner, description } = await NativeRunner.open(loadAddon(), {
    ...{ model, numerics: 'reference', threads, context },
    ...{ kvBytes: 0, maxSequences: maxRunning, isChecked: false },
  });
  const contextTokens = Math.min(description.geometry.context, description.kv_blocks * 128);
  const cache = cacheConfig(description, 0, 'ends');
  const engine = new NanduEngine(runner, { contextTokens, eosToken: null, maxRunning, maxWaiting: 64, cache });
  return { engine, description };
}

/**
 * One greedy request to its end: its tokens, and when things happened (milliseconds of performance.now()): start, each
 * step of the prompt as [tokens done, at], each token.
 */
export function generate(engine, promptTokens, maxTokens, show = () => {}) {
  return new Promise((resolve, reject) => {
    const run = { tokens: [], tokenMs: [], prefill: [], beginMs: performance.now(), endMs: 0 };
    engine.start({
      promptTokens,
      numChoices: 1,
      sampling: {
        ...{ temperature: 0, topK: 0, topP: 1, minP: 0, presencePenalty: 0, frequencyPenalty: 0 },
        ...{ repetitionPenalty: 1, seed: 1, logitBias: new Map() },
      },
      stop: { maxTokens, minTokens: 0, sequences: [], tokenIds: [], ignoreEos: true },
      reasoning: { startsInReasoning: false, endToken: null, maxTokens: null },
      logprobs: false,
      topLogprobs: 0,
      priority: 'normal',
      cache: { read: false, write: false, scope: '', boundaries: [] },
      signal: new AbortController().signal,
      onEvent: (event) => {
        const now = performance.now();
        if (event.t === 'prefill') run.prefill.push([event.done, now]);
        if (event.t === 'tokens')
          for (const token of event.tokens) {
            run.tokens.push(token.id);
            run.tokenMs.push(now);
          }
        if (event.t === 'failed') reject(event.failure);
        if (event.t === 'finished') {
          run.endMs = now;
          resolve(run);
        }
        show(event);
      },
    });
  });
}
