// A cached prefix changes no bit of an answer: token ids and the twenty best log-probabilities of every position are compared
// with those of the same prompt that bypassed the cache. Each case is taken through all places a prefix can come from:
//
//   bypass ─ cold ─ live ─ disk ─▶ restart ─ disk ─ RAM that evicts ─▶ restart ─ disk ─ memory        half of the cases
//   bypass ─ cold ──────────────────────────── RAM that evicts ─▶ restart ─ disk ─ memory             the others
//
// One restart is SIGTERM, the other kill -9. The whole product of the dimensions below, 144 servers with 44 cases each:
//
//   node test/e2e/kv/product.mjs [--part 1/8] [--jobs 2] [--seed 1]
//
// prints JSON. kv-exact.test.ts runs a pairwise cover of the same dimensions.

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  BLOCK,
  GEOMETRIES,
  KvServer,
  makeModel,
  randomFrom,
  replayTokensOf,
  sleep,
  temporaryFolder,
  tokensOf,
} from './harness.mjs';

/** What a server is started with ... */
const SERVERS = {
  geometry: Object.keys(GEOMETRIES),
  mode: ['full', 'periodic', 'ends', 'replay'],
  io: ['uring', 'pool', 'mmap'],
  numerics: ['reference', 'f32'],
};
/** ... and what it is asked. Lengths stand around every border: of a block, of what is selected, of the period of points. */
const CASES = {
  length: [127, 128, 129, 255, 256, 257, 777, 2051, 4095, 4096, 4097],
  rows: ['prefill', 'decode'],
  company: ['alone', 'crowd'],
};
const DIMENSIONS = { ...SERVERS, ...CASES };

/** RAM that holds some blocks and points, and not those of all cases. */
const LITTLE_MEMORY = '512KiB';
/** More than all cases of a server write: what is evicted here is evicted from RAM. */
const QUOTA = '512MiB';
/** Tokens of a decoded answer, over a border of a block for all prompts of more than one. */
const DECODED = 150;

/** How often a case waits for a machine that was too busy, and how long: until the disk is tried again. */
const [SLOW_TRIES, SLOW_REST_MS] = [20, 3000];

/** Seeds of prompts that are asked once and never again, away from those of cases. */
const STRANGERS = 1e8;
let numStrangers = 0;

const BYPASS = { mode: 'CACHE_MODE_BYPASS' };

export function product(dimensions) {
  return Object.entries(dimensions).reduce(
    (all, [name, values]) => all.flatMap((one) => values.map((value) => ({ ...one, [name]: value }))),
    [{}],
  );
}

/** Servers with cases such that any two values of any two dimensions meet in one of them; cases are chosen greedily. */
export function pairwiseCover(seed) {
  const random = randomFrom(seed);
  const pairsOf = (one) => {
    const values = Object.keys(DIMENSIONS).map((name) => `${name}=${one[name]}`);
    return values.flatMap((a, index) => values.slice(index + 1).map((b) => `${a} ${b}`));
  };
  // Each geometry meets each mode, so there must be so many servers; in these, each value of the others meets each of both.
  const servers = SERVERS.geometry.flatMap((geometry, g) =>
    SERVERS.mode.map((mode, m) => {
      const numerics = SERVERS.numerics[(Math.floor(g / 3) + m) % 2];
      return { server: { geometry, mode, io: SERVERS.io[(g + m) % 3], numerics }, cases: [] };
    }),
  );
  const missing = new Set(product(DIMENSIONS).flatMap(pairsOf));
  const candidates = servers.flatMap(({ server, cases }) =>
    product(CASES).map((one) => ({ cases, one, pairs: pairsOf({ ...server, ...one }) })),
  );
  while (missing.size > 0) {
    const from = random(candidates.length);
    let [best, bestGain] = [null, 0];
    for (let index = 0; index < candidates.length; index++) {
      const candidate = candidates[(from + index) % candidates.length];
      const gain = candidate.pairs.filter((pair) => missing.has(pair)).length;
      if (gain > bestGain) [best, bestGain] = [candidate, gain];
    }
    assert.ok(best, `no server can have ${[...missing][0]}`);
    best.cases.push(best.one);
    for (const pair of best.pairs) missing.delete(pair);
  }
  return servers;
}

/** Takes one server's cases through all places, and adds to `counts`. Throws at the first bit that differs. */
export async function runServer({ server, cases }, models, folder, seed, counts) {
  const { geometry, mode, io, numerics } = server;
  const name = Object.values(server).join('-');
  const dir = join(folder, name);
  mkdirSync(dir);
  const start = (...memory) => {
    const flags = ['--kv-points', mode, '--io', io, '--numerics', numerics, '--kv-max-bytes', QUOTA, ...memory];
    counts.starts += 1;
    return KvServer.start({ model: models[geometry], dir, flags });
  };
  const signals = seed % 2 === 0 ? ['SIGKILL', 'SIGTERM'] : ['SIGTERM', 'SIGKILL'];
  const runs = cases.map((one, index) => new Case({ ...server, ...one }, seed * 1000 + index, counts));
  const early = runs.filter((_, index) => index % 2 === seed % 2);
  const late = runs.filter((one) => !early.includes(one));
  let running = null;
  const end = async (signal) => {
    const exit = await running.stop(signal);
    assert.equal(exit, signal === 'SIGKILL' ? signal : 0, `${name}: how the server ended: ${running.errors}`);
  };
  const restart = async (signal, ...memory) => {
    // kill -9 takes what is not durable yet; SIGTERM takes nothing.
    if (signal === 'SIGKILL') await running.settled();
    await end(signal);
    running = await start(...memory);
  };
  try {
    running = await start('--kv-memory', '0');
    for (const one of early) await one.begin(running);
    for (const one of early) await one.live(running);
    await running.settled();
    for (const one of early) await one.check(running, 'disk', 'disk');
    await restart(signals[0], '--kv-memory', LITTLE_MEMORY);
    for (const one of early) await one.check(running, `after ${signals[0]}`, 'disk');
    for (const one of late) await one.begin(running);
    for (const one of runs) await one.check(running, 'evicting', null);
    counts.evictions += (await running.stats()).tiers.find(({ tier }) => tier === 'CACHE_TIER_MEMORY').evictions;
    await restart(signals[1]);
    for (const one of runs) await one.check(running, `after ${signals[1]}`, 'disk');
    for (const one of runs) await one.check(running, 'memory', 'memory');
    await end('SIGTERM');
    running = null;
    counts.servers += 1;
  } finally {
    await running?.stop('SIGKILL');
  }
}

class Case {
  constructor(values, seed, counts) {
    this.values = values;
    this.name = Object.entries(values)
      .map(([key, value]) => `${key}=${value}`)
      .join(' ');
    this.seed = seed;
    this.counts = counts;
    // Cases of one server must not share a prefix, or one would write what another expects to compute.
    this.prompt = tokensOf(values.length, seed);
  }

  /** Tokens that hit when the prompt comes again. */
  get hits() {
    const { length, mode, geometry } = this.values;
    const whole = Math.floor((length - 1) / BLOCK) * BLOCK;
    if (mode !== 'replay') return whole;
    return Math.max(0, Math.floor((whole - replayTokensOf(geometry)) / BLOCK) * BLOCK);
  }

  /** What never was cached, and then the first that computes and keeps it. */
  async begin(server) {
    const { rows, length, company } = this.values;
    if (rows === 'prefill') {
      this.bits = (await server.ask(this.prompt, BYPASS)).bits;
      const cold = await (company === 'crowd' ? this.#inCrowd(server) : server.ask(this.prompt));
      this.#compare(cold, 'cold');
      return;
    }
    const decoded = length > BLOCK * 2 ? DECODED : length - 20;
    const asked = this.prompt.slice(0, length - decoded);
    const answer = await server.ask(asked, { maxTokens: decoded });
    this.prompt = [...asked, ...answer.ids];
    this.bits = (await server.ask(this.prompt, BYPASS)).bits;
    // What decoding said on its way is what prefill of the same tokens says.
    const again = await server.ask(asked, { maxTokens: decoded, ...BYPASS });
    assert.equal(answer.bits, again.bits, `${this.name}: the answer that was decoded`);
    this.#compare(await server.ask(this.prompt), 'fed back');
  }

  /** Beside a request that holds the same rows. */
  async live(server) {
    const { answer } = await this.#inTime('live', async () => {
      const holder = server.open(this.prompt, { maxTokens: 600 });
      await holder.first;
      const beside = await server.ask(this.prompt);
      holder.cancel();
      await holder.end;
      return beside;
    });
    assert.equal(answer.usage.promptCacheHitTokens, this.hits, `${this.name}, live: hits`);
    this.counts.liveTokens += answer.usage.hitLiveTokens;
  }

  /** @param tier where all hits must come from when nobody else is there; null: from anywhere. */
  async check(server, state, tier) {
    const isCrowded = this.values.company === 'crowd';
    const { answer, wasSlow } = await this.#inTime(state, () =>
      isCrowded ? this.#inCrowd(server) : server.ask(this.prompt),
    );
    const { usage } = answer;
    const where = `${this.name}, ${state}: ${JSON.stringify(usage)}`;
    if (this.values.length <= BLOCK) assert.equal(usage.miss.reason, 'MISS_REASON_SHORT', where);
    // A sequence that is kept in RAM goes on at its exact end, which may lie behind the last whole block.
    if (state === 'evicting') assert.ok(usage.promptCacheHitTokens >= this.hits, where);
    else assert.equal(usage.promptCacheHitTokens, this.hits, where);
    if (this.values.mode !== 'replay' && this.hits > 0) assert.equal(usage.miss.reason, 'MISS_REASON_NONE', where);
    if (tier === 'disk' && !isCrowded && !wasSlow) assert.equal(usage.hitDiskTokens, this.hits, where);
    // RAM for the cache is measured in rows: where there are none, points find little room.
    if (tier === 'memory' && this.values.geometry !== 'plain') assert.equal(usage.hitDiskTokens, 0, where);
  }

  /** A machine too busy to read in time computes instead, and leaves the disk alone for some seconds: right, but no hit. */
  async #inTime(state, ask) {
    let answer = await ask();
    this.#compare(answer, state);
    const isSlow = () => answer.usage.miss.reason === 'MISS_REASON_UNAVAILABLE';
    const wasSlow = isSlow();
    for (let tries = 0; isSlow() && tries < SLOW_TRIES; tries++) {
      this.counts.slow += 1;
      await sleep(SLOW_REST_MS);
      answer = await ask();
      this.#compare(answer, state);
    }
    return { answer, wasSlow };
  }

  /** The prompt among eight others: three ask the same, three something new, two give up. */
  async #inCrowd(server) {
    const [quits, ...others] = [210, 135, 160, 185].map((length) => tokensOf(length, STRANGERS + ++numStrangers));
    const quitters = [this.prompt, quits].map((tokens) => server.open(tokens, { maxTokens: 200 }));
    const same = [0, 1, 2, 3].map(() => server.ask(this.prompt));
    const misses = others.map((tokens) => server.ask(tokens, { scope: 'others' }));
    await Promise.race([quitters[0].first, same[0]]);
    for (const quitter of quitters) quitter.cancel();
    const [answer, ...twins] = await Promise.all(same);
    for (const twin of twins) this.#compare(twin, 'twin');
    for (const { usage } of await Promise.all(misses))
      assert.equal(usage.promptCacheHitTokens, 0, 'nobody knows these');
    await Promise.all(quitters.map(({ end }) => end));
    return answer;
  }

  #compare({ bits, usage }, state) {
    assert.equal(bits, this.bits, `${this.name}, ${state}: the answer differs from the one that bypassed the cache`);
    this.counts.answers += 1;
    this.counts.states[state] = (this.counts.states[state] ?? 0) + 1;
    this.counts.memoryTokens += usage.hitMemoryTokens;
    this.counts.diskTokens += usage.hitDiskTokens;
  }
}

/** Runs `servers`, some at a time, in a folder of their own. @returns counts. */
export async function runAll(servers, seed, jobs) {
  const folder = temporaryFolder('kv-exact');
  const zero = { servers: 0, cases: 0, starts: 0, answers: 0, wrong: 0, slow: 0, evictions: 0 };
  const counts = { seed, ...zero, liveTokens: 0, memoryTokens: 0, diskTokens: 0, states: {} };
  try {
    const used = new Set(servers.map(({ server }) => server.geometry));
    const models = Object.fromEntries([...used].map((name) => [name, makeModel(folder.path, name)]));
    const left = servers.map((one, index) => ({ ...one, seed: seed * 500 + index }));
    const worker = async () => {
      for (let next = left.shift(); next; next = left.shift()) {
        await runServer(next, models, folder.path, next.seed, counts);
        counts.cases += next.cases.length;
      }
    };
    await Promise.all(Array.from({ length: jobs }, worker));
    return counts;
  } finally {
    folder.remove();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      part: { type: 'string', default: '1/1' },
      jobs: { type: 'string', default: '2' },
      seed: { type: 'string', default: '1' },
    },
  });
  const [part, parts] = values.part.split('/').map(Number);
  const beganMs = performance.now();
  const servers = product(SERVERS)
    .filter((_, index) => index % parts === part - 1)
    .map((server) => ({ server, cases: product(CASES) }));
  const counts = await runAll(servers, Number(values.seed), Number(values.jobs));
  console.log(
    JSON.stringify({ ...counts, part: values.part, seconds: Math.round((performance.now() - beganMs) / 1000) }),
  );
}
