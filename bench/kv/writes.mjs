// What writing the cache in the background costs decoding: the same server decodes with a cache that takes and writes a point at
// every 128 tokens (--kv-points full, far more than the default writes) and with cache.mode BYPASS, in turns. The figure is the
// median of the rounds' ratios.
//   node bench/kv/writes.mjs --model /tmp/m/medium.gguf [--tokens 384] [--rounds 5] [--dir DIR] [--threads 2]
import { rmSync } from 'node:fs';
import { gate, machine, median, options, prompt, rounded, spanMs, warm } from '../engine/lib.mjs';
import { call, Server } from '../engine/server.mjs';

const flags = options(import.meta.url, {
  ...{ tokens: 384, rounds: 5, dir: '/tmp/nandu-bench-writes', vocab: 32000 },
});
rmSync(flags.dir, { recursive: true, force: true });
warm(flags.model);
const server = await Server.withDisk(flags.model, flags.threads, flags.dir, ['--kv-points', 'full']);
const client = await server.client();
const admin = await server.client('AdminService');

async function decode(seed, mode) {
  const { usage, timings } = await call(client, 'Generate', {
    token_ids: { ids: [...prompt(130, seed, Number(flags.vocab))] },
    sampling: { temperature: 0 },
    stop: { max_tokens: Number(flags.tokens), ignore_eos: true },
    cache: { mode },
    output: { timings: true },
  });
  return (usage.completion_tokens - 1) / (spanMs(timings.decode) / 1e3);
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
console.log(
  JSON.stringify(
    {
      bench: 'kv/writes',
      ...machine(),
      tokens_per_second: {
        writing: rounded(median(rounds.map(({ writing }) => writing))),
        alone: rounded(median(rounds.map(({ alone }) => alone))),
      },
      bytes_written: Number(tiers.at(-1).bytes_written),
      cost: gate(1 - median(rounds.map(({ writing, alone }) => writing / alone)), { atMost: 0.02 }),
      ratios: rounds.map(({ writing, alone }) => rounded(writing / alone)),
    },
    null,
    2,
  ),
);
