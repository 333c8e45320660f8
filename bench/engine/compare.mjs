// nandu against llama.cpp on one file, same threads, taking turns: decode after a 64-token prompt, prefill of 512 tokens,
// and 8 sequences decoded together (their total). Each round measures both back to back, in changing order; a figure is
// the median over the rounds of nandu's tokens a second divided by llama.cpp's. The ratio of CPU time stands beside it: with
// --threads 1, where no thread spins for another, it is what remains to be seen on a machine that others keep busy.
//
// llama.cpp is tried with several settings (KV rows F32 or F16, flash attention, repacked weights); those that crash are
// listed, and for each kind of work the fastest of the rest is what nandu is compared with.
//
//   node bench/engine/compare.mjs [--model /tmp/m/medium.gguf] [--threads 2] [--rounds 7] [--tokens 48]
//                                 [--only decode,prefill,decode_of_8] [--llama='--kv f16 --flash'] [--seconds 45]
//                                 [--python ~/.cache/nandu/parity/bin/python]
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  disturbance,
  gate,
  generate,
  machine,
  median,
  openEngine,
  options,
  prompt,
  quietRounds,
  root,
  rounded,
  warm,
} from './lib.mjs';

const GATES = { decode: 1.5, prefill: 4, decode_of_8: 2 };
const venv = process.env.NANDU_PARITY_VENV ?? join(homedir(), '.cache/nandu/parity');
const args = options(import.meta.url, {
  ...{ rounds: 7, tokens: 48, seconds: 45, only: Object.keys(GATES).join(), llama: '' },
  python: join(venv, 'bin/python'),
});
const threads = Number(args.threads);
const steps = Number(args.tokens);
const kinds = args.only.split(',');
const SETTINGS = ['--kv f32', '--kv f16', '--kv f16 --flash', '--kv f32 --repack', '--kv f16 --flash --repack'];

/** llama.py as a child: ask() resolves to tokens a second and CPU seconds a token, or rejects when it died. */
class Llama {
  constructor(settings) {
    this.settings = settings;
    this.child = spawn(
      args.python,
      [join(root, 'bench/engine/llama.py'), args.model, '--threads', args.threads, ...settings.split(' ')],
      {
        stdio: ['pipe', 'pipe', 'ignore'],
      },
    );
    this.gone = new Promise((_, reject) =>
      this.child.once('exit', (code, signal) => reject(new Error(signal ?? `exit ${code}`))),
    );
    this.gone.catch(() => {});
    this.child.stdin.on('error', () => {});
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]();
  }

  async ask(request) {
    this.child.stdin.write(`${JSON.stringify(request)}\n`);
    const line = await Promise.race([this.lines.next(), this.gone]);
    if (line.done) await this.gone;
    const { seconds, cpu, tokens } = JSON.parse(line.value);
    return { speed: tokens / seconds, cpu: cpu / tokens };
  }

  async close() {
    this.child.stdin.end();
    await this.gone.catch(() => {});
  }
}

/** Sequences that decode together, from where all of them do: tokens a second, CPU seconds a token. */
async function together(some) {
  const waiting = new Set(some);
  let cpu = null;
  const onEvent = (ids) => (event) => {
    if (event.t === 'tokens' && waiting.delete(ids) && waiting.size === 0) cpu = process.cpuUsage();
  };
  const runs = await Promise.all(some.map((ids) => generate(engine, ids, steps + 1, onEvent(ids))));
  const spent = process.cpuUsage(cpu);
  const begin = Math.max(...runs.map((run) => run.tokenMs[0]));
  const end = Math.min(...runs.map((run) => run.tokenMs.at(-1)));
  const tokens = runs.reduce((sum, run) => sum + run.tokenMs.filter((at) => at > begin && at <= end).length, 0);
  return { speed: (tokens * 1000) / (end - begin), cpu: (spent.user + spent.system) / 1e6 / tokens };
}

async function prefill(ids) {
  const cpu = process.cpuUsage();
  const run = await generate(engine, ids, 1);
  const spent = process.cpuUsage(cpu);
  return {
    speed: (ids.length * 1000) / (run.tokenMs[0] - run.beginMs),
    cpu: (spent.user + spent.system) / 1e6 / ids.length,
  };
}

if (!existsSync(args.python)) {
  console.error(`${args.python} is not there; test/parity/setup.sh makes it, NANDU_PARITY_VENV names another place`);
  process.exit(69);
}
warm(args.model);
const { engine, description } = await openEngine(args.model, { threads });
const prompts = Array.from({ length: 8 }, (_, index) => prompt(64, index + 1));
const long = prompt(512, 99);

// Greedy answers are the same in every round, and llama.cpp is given them.
const answers = await Promise.all(prompts.map((ids) => generate(engine, ids, steps + 1)));
const continuations = answers.map((run) => run.tokens.slice(0, steps));
const lists = prompts.map((ids) => [...ids]);
const work = {
  decode: {
    nandu: () => together(prompts.slice(0, 1)),
    llama: { do: 'decode', prompts: lists.slice(0, 1), continuations: continuations.slice(0, 1) },
  },
  prefill: {
    nandu: () => prefill(long),
    llama: { do: 'prefill', prompt: [...long] },
  },
  decode_of_8: {
    nandu: () => together(prompts),
    llama: { do: 'decode', prompts: lists, continuations },
  },
};

// What llama.cpp can do here, if not told: each setting on a small piece of each kind of work.
const small = (lists) => lists.map((list) => list.slice(0, 12));
const probes = {
  decode: { ...work.decode.llama, continuations: small(work.decode.llama.continuations) },
  prefill: { do: 'prefill', prompt: [...long.subarray(0, 128)] },
  decode_of_8: { ...work.decode_of_8.llama, prompts: small(lists), continuations: small(continuations) },
};
const tried = [];
for (const settings of args.llama ? [] : SETTINGS) {
  const llama = new Llama(settings);
  const result = { settings };
  try {
    for (const name of kinds) {
      await llama.ask(probes[name]);
      result[name] = rounded((await llama.ask(probes[name])).speed);
    }
  } catch (error) {
    result.failed = error.message;
  }
  await llama.close();
  tried.push(result);
}

const figures = {};
for (const name of kinds) {
  const { nandu, llama: request } = work[name];
  const fastest = tried.filter((result) => result[name]).sort((a, b) => b[name] - a[name])[0];
  const settings = args.llama || fastest?.settings;
  if (!settings) throw new Error(`llama.cpp runs with none of its settings: ${JSON.stringify(tried)}`);
  const llama = new Llama(settings);
  await llama.ask(probes[name]);
  const rounds = await quietRounds(
    Number(args.rounds),
    Number(args.seconds),
    [process.pid, llama.child.pid],
    async (index) => {
      const round = {};
      for (const who of index % 2 ? ['llama', 'nandu'] : ['nandu', 'llama'])
        round[who] = who === 'nandu' ? await nandu() : await llama.ask(request);
      return round;
    },
  );
  await llama.close();
  figures[name] = {
    ratio: gate(median(rounds.map((round) => round.nandu.speed / round.llama.speed)), { atLeast: GATES[name] }),
    ratio_of_cpu_time: rounded(median(rounds.map((round) => round.llama.cpu / round.nandu.cpu))),
    nandu_tokens_per_second: rounded(median(rounds.map((round) => round.nandu.speed))),
    llama_tokens_per_second: rounded(median(rounds.map((round) => round.llama.speed))),
    llama_settings: settings,
    ratios: rounds.map((round) => rounded(round.nandu.speed / round.llama.speed, 3)),
    others_at_most: disturbance(rounds),
  };
}
await engine.close();
const { target } = description;
console.log(
  JSON.stringify(
    { bench: 'compare', ...machine(), target, threads, model: args.model, ...figures, llama_tried: tried },
    null,
    2,
  ),
);
process.exit(Object.values(figures).every(({ ratio }) => ratio.met) ? 0 : 1);
