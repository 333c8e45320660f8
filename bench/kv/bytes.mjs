// Bytes on disk a token of a 65,536-token prefix, against the formula (what `nandu plan` predicts from the geometry), and what
// was written for it. The bytes depend on the rows' geometry alone, so a file stands in for the model whose rows are the same
// and whose hidden size and experts are tiny: that both have the same rows, blocks and points is checked first, from the two
// files. Everything through a real server; the records are then listed by `nandu cache ls` when it is gone.
//   node bench/kv/bytes.mjs --model /tmp/m/medium.gguf [--prefix 65536] [--dir DIR] [--threads 2]
//
// segment_bytes_a_token   all that segments take: headers with checksums and hashes, rows, padding to the page
// written                 by the server's own count, and by the kernel's for the process (/proc/PID/io, from ready to stopped)
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { gate, machine, nandu, options, prompt, rounded, sleep } from '../engine/lib.mjs';
import { call, Server } from '../engine/server.mjs';

const PAGE = 4096;
const VOCAB = 512;
const flags = options(import.meta.url, {
  ...{ prefix: 65536, dir: '/tmp/nandu-bench-bytes' },
});
const prefix = Number(flags.prefix);
const cli = (...args) =>
  JSON.parse(execFileSync(process.execPath, [nandu, ...args, '--json'], { encoding: 'utf8', maxBuffer: 1 << 26 }));

/** Everything that the bytes of records follow from. */
function layout(file) {
  const { layers, kv } = cli('inspect', file);
  const rates = ['--disk-bandwidth', '1GB', '--memory-bandwidth', '10GB']; // not measured: no figure here needs them
  const { bytes_per_token, point_bytes, disk } = cli(
    'plan',
    '--model',
    file,
    '--context',
    String(prefix + 1),
    ...rates,
  );
  return { layers, rows: kv.reference, bytes_per_token, point_bytes, disk };
}

rmSync(flags.dir, { recursive: true, force: true });
mkdirSync(flags.dir, { recursive: true });
const [standIn, kvDir] = [join(flags.dir, 'stand-in.gguf'), join(flags.dir, 'kv')];
const tiny = {
  ...{ vocab: VOCAB, hidden: 64, heads: 2, 'q-rank': 64, groups: 1, 'o-rank': 64, experts: 4, 'experts-used': 1 },
  ...{ 'expert-ffn': 64, 'hash-layers': 0, 'index-heads': 1, 'index-top-k': 16, 'sinkhorn-iterations': 1 },
};
const overrides = Object.entries(tiny).flatMap(([name, value]) => [`--${name}`, String(value)]);
execFileSync(process.execPath, [nandu, 'synth', standIn, '--preset', 'medium', ...overrides], { stdio: 'ignore' });
const [layoutOfModel, layoutOfStandIn] = [layout(flags.model), layout(standIn)].map((one) => JSON.stringify(one));
if (layoutOfModel !== layoutOfStandIn)
  throw new Error(`the stand-in keeps other rows than the model:\n${layoutOfModel}\n${layoutOfStandIn}`);
const { bytes_per_token, point_bytes, disk } = JSON.parse(layoutOfModel);

const server = await Server.withDisk(standIn, flags.threads, kvDir);
const sentToDisk = () =>
  Number(/^write_bytes: (\d+)$/m.exec(readFileSync(`/proc/${server.process.pid}/io`, 'utf8'))[1]);
const before = sentToDisk();
const [client, admin] = [await server.client(), await server.client('AdminService')];
// One token more than the prefix: a point stands in front of a prompt's last token, so the whole prefix is kept.
const { usage } = await call(client, 'Generate', {
  token_ids: { ids: [...prompt(prefix + 1, 1, VOCAB)] },
  sampling: { temperature: 0 },
  stop: { max_tokens: 1, ignore_eos: true },
});
const onDisk = async () =>
  (await call(admin, 'GetCacheStats', {})).tiers.find(({ tier }) => tier === 'CACHE_TIER_DISK' || tier === 3);
let written = 0;
for (let last = -1; written !== last || written === 0; ) {
  last = written;
  await sleep(2000); // longer than a group commit waits
  written = Number((await onDisk()).bytes_written);
}
const kernel = sentToDisk() - before;
await server.stop();

const records = cli('cache', 'ls', '--kv-dir', kvDir, '--limit', '0');
function sum(kind) {
  const of = records.filter((record) => record.kind === kind);
  const total = (value) => of.reduce((all, record) => all + value(record), 0);
  const pages = (record) => Math.ceil(record.payload_bytes / PAGE) * PAGE;
  return {
    records: of.length,
    tokens: total(({ from_token, to_token }) => to_token - from_token),
    stored_bytes: total(({ stored_bytes }) => stored_bytes),
    payload_bytes: total(({ payload_bytes }) => payload_bytes),
    header_bytes: total((record) => record.stored_bytes - pages(record)),
    padding_bytes: total((record) => pages(record) - record.payload_bytes),
  };
}
const [segments, points] = [sum('segment'), sum('point')];
if (segments.tokens !== Math.floor(prefix / 128) * 128)
  throw new Error(`${segments.tokens} tokens lie in segments, the prefix has ${prefix}`);
const payload = segments.payload_bytes + points.payload_bytes;
const a_token = (bytes) => rounded(bytes / segments.tokens, 6);
console.log(
  JSON.stringify(
    {
      bench: 'kv/bytes',
      ...machine(),
      ...{ prefix, computed_tokens: usage.prompt_cache_miss_tokens },
      formula_bytes_a_token: bytes_per_token.total,
      segment_bytes_a_token: a_token(segments.stored_bytes),
      of_that: {
        rows: a_token(segments.payload_bytes),
        headers: a_token(segments.header_bytes),
        padding: a_token(segments.padding_bytes),
      },
      segments_against_formula: gate(segments.stored_bytes / segments.tokens / bytes_per_token.total, { atMost: 1.01 }),
      points_bytes_a_token: a_token(points.stored_bytes),
      ...{ segments, points },
      predicted: { ...disk, bytes_of_a_point: point_bytes },
      written: { server_bytes: written, kernel_bytes: kernel },
      write_amplification: gate(written / payload, { atMost: 1.3 }),
      write_amplification_by_kernel: gate(kernel / payload, { atMost: 1.3 }),
    },
    null,
    2,
  ),
);
rmSync(flags.dir, { recursive: true, force: true });
