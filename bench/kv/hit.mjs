// What a cached prompt costs against the same prompt computed: CPU seconds and wall time a token, time to the first token,
// bytes of segments on disk a token against the rows' own bytes, write amplification. Everything through a real server and
// gRPC; hits come from the disk (nothing is kept in RAM, io_uring reads past the page cache), after a restart.
//   node bench/kv/hit.mjs --model /tmp/m/medium.gguf [--prefix 8192] [--tail 16] [--hits 9] [--dir DIR] [--threads 2]
//
// cold      one request of prefix + tail tokens, computed
// hit       the same prefix with other tails, `hits` times; median
// one_token prefix + 1 tokens: nothing is computed but the last token, so all its CPU counts as cost of the hit
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { gate, machine, median, nandu, options, prompt, rounded, sleep, spanMs, warm } from '../engine/lib.mjs';
import { call, generate, Server } from '../engine/server.mjs';

const flags = options(import.meta.url, {
  ...{ prefix: 8192, tail: 16, hits: 9, dir: '/tmp/nandu-bench-kv', vocab: 32000 },
});
const [prefix, tail, hits] = [flags.prefix, flags.tail, flags.hits].map(Number);
const common = prompt(prefix, 1, Number(flags.vocab));

async function start() {
  const server = await Server.withDisk(flags.model, flags.threads, flags.dir, ['--kv-memory', '0']);
  return { server, client: await server.client(), admin: await server.client('AdminService') };
}

const ask = (client, ids, mode = 'CACHE_MODE_READ_WRITE') => generate(client, ids, 1, mode);

async function measured({ server, client }, ids, mode) {
  const cpu = server.cpu().all;
  const { usage, timings } = await ask(client, ids, mode);
  return {
    cpuMs: (server.cpu().all - cpu) * 1e3,
    firstTokenMs: spanMs(timings.time_to_first_token),
    restoreMs: spanMs(timings.restore),
    hit: usage.prompt_cache_hit_tokens ?? 0,
    disk: usage.hit_disk_tokens ?? 0,
    readBytes: timings.kv_bytes_read ?? 0,
  };
}

const withTail = (seed, length) => new Uint32Array([...common, ...prompt(length, 1000 + seed, Number(flags.vocab))]);

rmSync(flags.dir, { recursive: true, force: true });
warm(flags.model);
let running = await start();
await ask(running.client, prompt(256, 77, Number(flags.vocab)), 'CACHE_MODE_BYPASS');
const cold = await measured(running, withTail(0, tail));
await sleep(1500);
const { tiers } = await call(running.admin, 'GetCacheStats', {});
const written = tiers.find(({ tier }) => tier === 'CACHE_TIER_DISK' || tier === 3);
await running.server.stop();
const records = JSON.parse(
  execFileSync(process.execPath, [nandu, 'cache', 'ls', '--kv-dir', flags.dir, '--limit', '0', '--json'], {
    encoding: 'utf8',
  }),
);
const sum = (kind, key) => records.filter((one) => one.kind === kind).reduce((total, one) => total + one[key], 0);
const segmentTokens = sum('segment', 'to_token') - sum('segment', 'from_token');
const recordBytes = sum('segment', 'stored_bytes') + sum('point', 'stored_bytes');

running = await start();
await ask(running.client, prompt(256, 78, Number(flags.vocab)), 'CACHE_MODE_BYPASS');
const warmUp = await measured(running, withTail(50, tail), 'CACHE_MODE_READ_ONLY');
const rounds = [];
const single = [];
for (let index = 0; index < hits; index++) {
  rounds.push(await measured(running, withTail(100 + index, tail), 'CACHE_MODE_READ_ONLY'));
  single.push(await measured(running, withTail(200 + index, 1), 'CACHE_MODE_READ_ONLY'));
}
await running.server.stop();
const of = (list, key) => median(list.map((round) => round[key]));

const hitTokens = of(single, 'hit');
console.log(
  JSON.stringify(
    {
      bench: 'kv/hit',
      ...machine(),
      ...{ prefix, tail, hits },
      hit_tokens: hitTokens,
      hit_disk_tokens: of(single, 'disk'),
      cold: { first_token_ms: rounded(cold.firstTokenMs), cpu_ms: rounded(cold.cpuMs) },
      hit: {
        first_token_ms: rounded(of(rounds, 'firstTokenMs')),
        cpu_ms: rounded(of(rounds, 'cpuMs')),
        restore_ms: rounded(of(rounds, 'restoreMs')),
        read_bytes: of(rounds, 'readBytes'),
        restore_mb_per_second: rounded(of(rounds, 'readBytes') / 1e3 / of(rounds, 'restoreMs')),
      },
      one_token: { cpu_ms: rounded(of(single, 'cpuMs')), restore_ms: rounded(of(single, 'restoreMs')) },
      // A hit token against a miss token.
      wall_ratio: gate(of(single, 'restoreMs') / hitTokens / (cold.firstTokenMs / (prefix + tail)), {
        atMost: 1 / 1000,
      }),
      cpu_ratio: gate(of(single, 'cpuMs') / hitTokens / (cold.cpuMs / (prefix + tail)), { atMost: 1 / 1000 }),
      first_token_ratio: gate(of(rounds, 'firstTokenMs') / cold.firstTokenMs, { atMost: 1 / 100 }),
      disk: {
        segment_bytes_a_token: rounded(sum('segment', 'stored_bytes') / segmentTokens),
        row_bytes_a_token: rounded(sum('segment', 'payload_bytes') / segmentTokens),
        segments_against_rows: gate(sum('segment', 'stored_bytes') / sum('segment', 'payload_bytes'), { atMost: 1.01 }),
        point_bytes: sum('point', 'stored_bytes'),
        write_amplification: gate(Number(written.bytes_written) / recordBytes, { atMost: 1.3 }),
      },
      first_hit_after_restart_ms: rounded(warmUp.firstTokenMs),
    },
    null,
    2,
  ),
);
