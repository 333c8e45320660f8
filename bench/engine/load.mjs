// Seconds from the start of a process to its first token on a 3 GB file, page cache warm: `nandu run` until it prints a
// token, and `nandu serve` until a client that asks again and again has its first streamed token; the latter without a cache
// directory, and with one that remembers the file, so that its scales are not checked again. Beside the wall time stand
// the process's CPU seconds up to there, which a neighbour moves less, and for the server where they went: until it
// listens (Node, imports), until it serves (the model), until the token.
//
//   node bench/engine/load.mjs [--model /tmp/m/medium.gguf] [--threads 2] [--rounds 5]
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cpuOf, gate, machine, median, nandu, options, rounded, sleep, warm } from './lib.mjs';
import { Server } from './server.mjs';

const args = options(import.meta.url, { rounds: 5 });
const folder = mkdtempSync(join(tmpdir(), 'nandu-load-'));
const ids = join(folder, 'ids.txt');
writeFileSync(ids, '11 12 13 14 15 16 17 18');

function run() {
  const begin = performance.now();
  const flags = [
    'run',
    '--model',
    args.model,
    '--tokens',
    ids,
    '--max-tokens',
    '2',
    '--ignore-eos',
    '--threads',
    args.threads,
  ];
  const child = spawn(process.execPath, [nandu, ...flags], { stdio: ['ignore', 'pipe', 'ignore'] });
  return new Promise((resolve, reject) => {
    let first = null;
    child.stdout.on('data', () => {
      first ??= { seconds: (performance.now() - begin) / 1000, cpu: cpuOf(`/proc/${child.pid}/stat`) };
    });
    child.on('exit', (code) =>
      code === 0 && first !== null ? resolve(first) : reject(new Error(`nandu run: exit ${code}`)),
    );
  });
}

async function serve(flags) {
  const server = new Server(args.model, args.threads, flags);
  const at = async (event) => {
    await event;
    return { seconds: (performance.now() - server.beginMs) / 1000, cpu: server.cpu().all };
  };
  const listening = at(server.listening);
  const serving = at(server.serving);
  const client = await server.client();
  const request = {
    token_ids: { ids: [11, 12, 13, 14, 15, 16, 17, 18] },
    stop: { max_tokens: 2, ignore_eos: true },
    output: { text: false, token_ids: true },
  };
  const ask = () =>
    new Promise((resolve) => {
      client
        .GenerateStream(request)
        .on('data', (message) => {
          if (message.delta) resolve(at());
        })
        .on('error', (error) => resolve(error.code === 14 ? null : Promise.reject(error)));
    });
  let first = await ask();
  for (; first === null; first = await ask()) await sleep(5);
  client.close();
  await server.stop();
  return { ...first, listening: await listening, serving: await serving };
}

const kvDir = join(folder, 'kv');
const again = ['--kv-dir', kvDir];
warm(args.model);
await run();
await (await Server.withDisk(args.model, args.threads, kvDir)).stop();
const rounds = [];
for (let index = 0; index < Number(args.rounds); index++) {
  const round = {};
  const turns = { run, serve: () => serve(), restart: () => serve(again) };
  const order = Object.keys(turns);
  for (const who of index % 2 ? order.reverse() : order) round[who] = await turns[who]();
  rounds.push(round);
}
rmSync(folder, { recursive: true });
const of = (who, what) => rounds.map((round) => rounded(what(round[who]), 3));
const seconds = (who) => of(who, (run) => run.seconds);
const cpu = (who) => rounded(median(of(who, (run) => run.cpu)), 3);
const until = (who, state) => ({
  seconds: median(of(who, (run) => run[state].seconds)),
  cpu_seconds: median(of(who, (run) => run[state].cpu)),
});
const gated = (who) => ({ ...gate(median(seconds(who)), { atMost: 1 }), cpu_seconds: cpu(who), rounds: seconds(who) });
const served = (who) => ({
  ...gated(who),
  ...{ until_listening: until(who, 'listening'), until_serving: until(who, 'serving') },
});
const figures = { run_seconds: gated('run'), serve_seconds: served('serve'), restart_seconds: served('restart') };
console.log(JSON.stringify({ bench: 'load', ...machine(), model: args.model, ...figures }, null, 2));
process.exit(Object.values(figures).every(({ met }) => met) ? 0 : 1);
