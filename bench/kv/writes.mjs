// What writing the cache in the background costs decoding: the same server decodes with a cache that takes and writes a point at
// every 128 tokens (--kv-points full, far more than the default writes) and with cache.mode BYPASS, in turns. `cost` is the
// median of the rounds' ratios of speed, which any neighbour moves. `cost_in_cpu` is what the threads that are not the engine's
// (JavaScript, the store's, the disk's) take beyond what they take without the cache, as a share of all CPU of an answer.
//   node bench/kv/writes.mjs --model /tmp/m/medium.gguf [--tokens 384] [--rounds 5] [--dir DIR] [--threads 2]
import { rmSync } from 'node:fs';
import { cpuByPart, gate, machine, median, options, prompt, rounded, sleep, spanMs, warm } from '../engine/lib.mjs';
import { call, generate, Server } from '../engine/server.mjs';

const flags = options(import.meta.url, {
  ...{ tokens: 384, rounds: 5, dir: '/tmp/nandu-bench-writes', vocab: 32000 },
});
rmSync(flags.dir, { recursive: true, force: true });
warm(flags.model);
const server = await Server.withDisk(flags.model, flags.threads, flags.dir, ['--kv-points', 'full']);
const client = await server.client();
const admin = await server.client('AdminService');

async function decode(seed, mode) {
  const before = cpuByPart(server.process.pid);
  const ids = prompt(130, seed, Number(flags.vocab));
  const { usage, timings } = await generate(client, ids, Number(flags.tokens), mode);
  await sleep(2500); // longer than a group commit waits
  const after = cpuByPart(server.process.pid);
  const cpu = (part) => after[part] - before[part];
  const besides = cpu('javascript') + cpu('other');
  const perSecond = (usage.completion_tokens - 1) / (spanMs(timings.decode) / 1e3);
  return { perSecond, besides, all: besides + cpu('engine') };
}

await decode(1, 'CACHE_MODE_BYPASS');
const rounds = [];
for (let round = 0; round < Number(flags.rounds); round++) {
  const modes = ['CACHE_MODE_READ_WRITE', 'CACHE_MODE_BYPASS'];
  if (round % 2) modes.reverse();
  const speed = {};
  for (const mode of modes) speed[mode] = await decode(100 + round, mode);
  rounds.push({ writing: speed.CACHE_MODE_READ_WRITE, alone: speed.CACHE_MODE_BYPASS });
}
const { tiers } = await call(admin, 'GetCacheStats', {});
await server.stop();
const ratios = rounds.map(({ writing, alone }) => writing.perSecond / alone.perSecond);
console.log(
  JSON.stringify(
    {
      bench: 'kv/writes',
      ...machine(),
      tokens_per_second: {
        writing: rounded(median(rounds.map(({ writing }) => writing.perSecond))),
        alone: rounded(median(rounds.map(({ alone }) => alone.perSecond))),
      },
      cpu_ms_besides_the_engine: {
        writing: rounded(median(rounds.map(({ writing }) => writing.besides)) * 1e3),
        alone: rounded(median(rounds.map(({ alone }) => alone.besides)) * 1e3),
      },
      bytes_written: Number(tiers.at(-1).bytes_written),
      cost: gate(1 - median(ratios), { atMost: 0.02 }),
      cost_in_cpu: gate(median(rounds.map(({ writing, alone }) => (writing.besides - alone.besides) / alone.all)), {
        atMost: 0.02,
      }),
      ratios: ratios.map((ratio) => rounded(ratio)),
    },
    null,
    2,
  ),
);
