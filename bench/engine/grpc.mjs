// What the server costs: decode tokens a second streamed through `nandu serve` to ghz (a client in Go) against the same
// TypeScript engine driven in this process, with 1 and with 16 sequences, in turns. Both generate the same tokens from the
// same prompts; a figure is (long answer - short answer) over the same difference in tokens, so that connecting and ghz and
// computing prompts cancel out.
//
// `cost` compares wall time, which any neighbour moves. `cost_in_cpu` is what the server adds outside of the engine's own
// threads (event loop, V8's helpers, libuv; the engine in this process has those too, and they are subtracted) as a share of
// all CPU seconds of a token in process: what decode loses where every core computes. With --threads 1 no worker waits for
// another, and it holds on a busy machine. `client_cpu` is ghz's own, in the same unit: it is no part of either.
//
//   go install github.com/bojand/ghz/cmd/ghz@v0.121.0
//   node bench/engine/grpc.mjs [--model /tmp/m/medium.gguf] [--threads 2] [--rounds 7] [--only 1,16] [--ghz ghz]
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  cpuByPart,
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
import { Server } from './server.mjs';

const installed = join(homedir(), 'go/bin/ghz');
const args = options(import.meta.url, {
  ...{ rounds: 7, only: '1,16', seconds: 50 },
  ghz: existsSync(installed) ? installed : 'ghz',
});
const PROMPT = 16;
/** Tokens of the short and the long answer. */
const ANSWERS = { 1: [8, 72], 16: [8, 40] };
const folder = mkdtempSync(join(tmpdir(), 'nandu-grpc-'));

warm(args.model);
const server = new Server(args.model, args.threads);
const port = await server.listening;
await server.serving;
const { engine, description } = await openEngine(args.model, { threads: Number(args.threads) });
const { vocab } = description.geometry;

/** Runs ghz once: `sequences` calls at the same time. Seconds until the last one ended, and ghz's CPU seconds. */
function streamed(sequences, maxTokens) {
  const calls = Array.from({ length: sequences }, (_, index) => ({
    token_ids: { ids: [...prompt(PROMPT, index + 1, vocab)] },
    stop: { max_tokens: maxTokens, ignore_eos: true },
    sampling: { temperature: 0 },
    output: { text: false, token_ids: true },
  }));
  const data = join(folder, `${sequences}-${maxTokens}.json`);
  writeFileSync(data, JSON.stringify(calls));
  const flags = ['--insecure', '--proto', join(root, 'proto/nandu/v1/generation.proto'), '-i', join(root, 'proto')];
  const load = ['-c', String(sequences), '-n', String(sequences), '-t', '600s', '-D', data, '-O', 'json'];
  const call = ['--call', 'nandu.v1.GenerationService/GenerateStream', `127.0.0.1:${port}`];
  const child = spawn('bash', ['-c', 'TIMEFORMAT="%U %S"; time "$@"', 'ghz', args.ghz, ...flags, ...load, ...call], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let out = '';
  let errors = '';
  child.stdout.on('data', (bytes) => {
    out += bytes;
  });
  child.stderr.on('data', (bytes) => {
    errors += bytes;
  });
  return new Promise((resolve, reject) => {
    child.on('close', (code) => {
      if (code !== 0) return reject(new Error(`ghz: exit ${code}: ${errors}`));
      const { statusCodeDistribution, total } = JSON.parse(out);
      if (statusCodeDistribution?.OK !== sequences)
        return reject(new Error(`ghz: ${JSON.stringify(statusCodeDistribution)}`));
      const [user, system] = errors.trim().split('\n').at(-1).split(' ').map(Number);
      resolve({ seconds: total / 1e9, clientCpu: user + system });
    });
  });
}

async function inProcess(sequences, maxTokens) {
  const runs = await Promise.all(
    Array.from({ length: sequences }, (_, index) => generate(engine, prompt(PROMPT, index + 1, vocab), maxTokens)),
  );
  return { seconds: (Math.max(...runs.map((run) => run.endMs)) - Math.min(...runs.map((run) => run.beginMs))) / 1000 };
}

const figures = {};
for (const sequences of args.only.split(',').map(Number)) {
  const [short, long] = ANSWERS[sequences];
  const tokens = sequences * (long - short);
  await inProcess(sequences, short);
  await streamed(sequences, short);
  const rounds = await quietRounds(
    Number(args.rounds),
    Number(args.seconds),
    [process.pid, server.process.pid],
    async (index) => {
      const measure = async (who, pid) => {
        const before = cpuByPart(pid);
        const least = await who(sequences, short);
        const between = cpuByPart(pid);
        const most = await who(sequences, long);
        const after = cpuByPart(pid);
        const cpu = (part) => (after[part] + before[part] - 2 * between[part]) / tokens;
        return {
          perSecond: tokens / (most.seconds - least.seconds),
          engine: cpu('engine'),
          javascript: cpu('javascript'),
          other: cpu('other'),
          client: (most.clientCpu - least.clientCpu) / tokens,
        };
      };
      const round = {};
      for (const who of index % 2 ? ['streamed', 'inProcess'] : ['inProcess', 'streamed'])
        round[who] = await (who === 'streamed'
          ? measure(streamed, server.process.pid)
          : measure(inProcess, process.pid));
      return round;
    },
  );
  const of = (who, what) => median(rounds.map((round) => what(round[who])));
  const outside = ({ javascript, other }) => javascript + other;
  const total = (side) => side.engine + outside(side);
  const micros = (who) => ({
    event_loop: rounded(of(who, ({ javascript }) => javascript) * 1e6, 3),
    other_threads: rounded(of(who, ({ other }) => other) * 1e6, 3),
    engine: rounded(of(who, ({ engine }) => engine) * 1e6, 3),
  });
  figures[`sequences_${sequences}`] = {
    cost: gate(1 - median(rounds.map((round) => round.streamed.perSecond / round.inProcess.perSecond)), {
      atMost: 0.03,
    }),
    cost_in_cpu: gate((of('streamed', outside) - of('inProcess', outside)) / of('inProcess', total), { atMost: 0.03 }),
    client_cpu: rounded(of('streamed', ({ client }) => client) / of('inProcess', total), 3),
    ratio_of_cpu_time: rounded(median(rounds.map((round) => total(round.streamed) / total(round.inProcess)))),
    cpu_us_per_token: {
      streamed: { ...micros('streamed'), client: rounded(of('streamed', ({ client }) => client) * 1e6, 3) },
      in_process: micros('inProcess'),
    },
    streamed_tokens_per_second: rounded(of('streamed', ({ perSecond }) => perSecond)),
    in_process_tokens_per_second: rounded(of('inProcess', ({ perSecond }) => perSecond)),
    costs: rounds.map((round) => rounded(1 - round.streamed.perSecond / round.inProcess.perSecond, 2)),
    others_at_most: disturbance(rounds),
  };
}
await engine.close();
await server.stop();
rmSync(folder, { recursive: true });
const { target } = description;
console.log(
  JSON.stringify(
    {
      bench: 'grpc',
      ...machine(),
      target,
      threads: Number(args.threads),
      model: args.model,
      client: 'ghz (Go)',
      ...figures,
    },
    null,
    2,
  ),
);
process.exit(Object.values(figures).every((figure) => figure.cost_in_cpu.met) ? 0 : 1);
