// A real `nandu serve` on a directory of its own, seen from outside: its gRPC, its log, its files, its signals. Shared by the
// tests of the prompt cache and by the longer commands beside this file; models are synthetic and made once a run.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

const root = fileURLToPath(new URL('../../..', import.meta.url));
export const bin = join(root, 'bin/nandu.js');
export const BLOCK = 128;
/** A server that is not SERVING by then is stuck; machines of CI are slow, so this is no measurement. */
const START_TIMEOUT_MS = 60_000;
/** Recovery waits for a sync, and that for all that other tests are writing to the same file system. */
const RECOVERY_TIMEOUT_MS = 180_000;

const { nandu } = loadPackageDefinition(
  loadSync(
    ['admin', 'cache', 'generation'].map((name) => `nandu/v1/${name}.proto`),
    { includeDirs: [join(root, 'proto')], longs: Number, enums: String, oneofs: true, defaults: true },
  ),
);

// --- models ---

const SHAPES = {
  ...{ vocab: 256, hidden: 64, heads: 2, 'head-dim': 64, 'rope-dim': 32, 'q-rank': 32, groups: 1, 'o-rank': 32 },
  ...{ experts: 4, 'experts-used': 2, 'expert-ffn': 32, 'index-heads': 2, 'index-dim': 64, context: 8192 },
};

/** What a sequence owns differs in each: kinds of layers, windows, what the indexer selects, routing by token id. */
export const GEOMETRIES = {
  // All kinds of layers; the indexer selects from 256 tokens on.
  mixed: { ratios: '0,4,128', window: 128, 'index-top-k': 64, 'hash-layers': 1 },
  // No compressed rows at all: a point is everything.
  plain: { ratios: '0,0', window: 128, 'hash-layers': 0 },
  // Hardly a window, and an indexer that selects eight rows.
  narrow: { ratios: '4,0,4', window: 8, 'index-top-k': 8, 'hash-layers': 2 },
  // Nothing but the long ratio.
  hca: { ratios: '128,128', window: 32, 'hash-layers': 0 },
  // A window of more than a block; selects from 2,048 tokens on.
  wide: { ratios: '4,128,4', window: 160, 'index-top-k': 512, 'hash-layers': 1 },
  // With a vocabulary, and more heads, groups and experts.
  words: { ratios: '0,4,128,4', window: 64, vocab: 512, heads: 4, groups: 2, experts: 8, 'index-top-k': 32 },
};

/** Rows and points that fill a small disk soon: a megabyte a block. */
const MODELS = { ...GEOMETRIES, heavy: { ratios: `4,128${',4'.repeat(22)}`, window: 512, 'hash-layers': 1 } };

/** What --kv-points replay computes again behind a hit: the windows of all layers, one after the other. */
export function replayTokensOf(name) {
  const { ratios, window } = GEOMETRIES[name];
  return (window - 1) * ratios.split(',').length;
}

export function temporaryFolder(name) {
  const path = mkdtempSync(join(tmpdir(), `nandu-${name}-`));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** @returns path of the file. */
export function makeModel(folder, name, seed = 1) {
  const path = join(folder, `${name}-${seed}.gguf`);
  const flags = Object.entries({ ...SHAPES, ...MODELS[name], seed }).flatMap(([flag, value]) => [
    `--${flag}`,
    `${value}`,
  ]);
  if (name !== 'words') flags.push('--no-vocab');
  execFileSync(process.execPath, [bin, 'synth', path, ...flags], { stdio: ['ignore', 'ignore', 'inherit'] });
  return path;
}

// --- numbers from a seed ---

/** mulberry32: the same seed makes the same run. @returns a function: a whole number below `n`. */
export function randomFrom(seed) {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** Token ids that every model here knows. */
export function tokensOf(length, seed) {
  const random = randomFrom(seed * 7919 + 13);
  return Array.from({ length }, () => 1 + random(250));
}

// --- a server ---

export class KvServer {
  #client = {};
  #tail = '';
  #waiting = [];
  log = [];
  errors = '';

  /** @param settings model, dir, flags, and as whom to run. `ready` tells when it can be asked. */
  constructor({ model, dir, flags = [], uid }) {
    this.startedMs = performance.now();
    const where = ['--listen', '127.0.0.1:0', '--model', model, '--kv-dir', dir ?? 'none'];
    // What makes a start cheaper: tests here start hundreds.
    const lean = ['--threads', '1', '--reflection', 'off'];
    this.process = spawn(process.execPath, [bin, 'serve', ...where, ...lean, ...flags], {
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(uid !== undefined && { uid, gid: uid }),
    });
    this.exit = new Promise((resolve) => {
      this.process.on('close', (code, signal) => {
        resolve(code ?? signal);
        this.#look();
      });
    });
    this.process.stdout.setEncoding('utf8').on('data', (text) => this.#take(text));
    this.process.stderr.setEncoding('utf8').on('data', (text) => {
      this.errors += text;
    });
  }

  /** Started, SERVING, and if it has a disk, with all that lies there found. */
  static async start(settings) {
    const server = new KvServer(settings);
    await server.ready;
    if (settings.dir) await server.recovered();
    return server;
  }

  async recovered() {
    await this.said('the prompt cache uses its disk');
    let stats = null;
    for (let waited = 0; waited < RECOVERY_TIMEOUT_MS; waited += 20) {
      stats = await this.stats();
      if (!stats.recovering) return;
      await sleep(20);
    }
    const { pid } = this.process;
    const said = [JSON.stringify(stats), ...this.log.map((entry) => JSON.stringify(entry)), this.errors].join('\n');
    throw new Error(
      `the index was never read to its end (process ${pid}, ${this.process.spawnargs.join(' ')}):\n${said}`,
    );
  }

  get ready() {
    return (async () => {
      const { port } = await this.said('listening');
      this.address = `127.0.0.1:${port}`;
      await this.said('serving');
      this.startMs = performance.now() - this.startedMs;
      return this;
    })();
  }

  /** The log line with this message, now or later. Rejects when the process ends without it. */
  said(msg) {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`nandu serve did not say '${msg}' within ${START_TIMEOUT_MS} ms: ${this.errors}`)),
        START_TIMEOUT_MS,
      );
      this.#waiting.push({ msg, resolve, reject, timer });
      this.#look();
    });
  }

  #take(text) {
    const lines = (this.#tail + text).split('\n');
    this.#tail = lines.pop();
    for (const line of lines) if (line.startsWith('{')) this.log.push(JSON.parse(line));
    this.#look();
  }

  #look() {
    const { exitCode, signalCode } = this.process;
    const isOver = exitCode !== null || signalCode !== null;
    this.#waiting = this.#waiting.filter(({ msg, resolve, reject, timer }) => {
      const line = this.log.find((entry) => entry.msg === msg);
      if (line === undefined && !isOver) return true;
      clearTimeout(timer);
      if (line) resolve(line);
      else reject(new Error(`nandu serve ended with ${exitCode ?? signalCode} before '${msg}': ${this.errors}`));
      return false;
    });
  }

  client(service) {
    this.#client[service] ??= new nandu.v1[service](this.address, credentials.createInsecure(), {
      // One connection for all of this server's clients, and none for another server that gets the same port.
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_reconnect_backoff_ms': 200,
    });
    return this.#client[service];
  }

  call(service, method, request) {
    return new Promise((resolve, reject) => {
      this.client(service)[method](request, { deadline: Date.now() + START_TIMEOUT_MS }, (error, response) =>
        error ? reject(error) : resolve(response),
      );
    });
  }

  /** A greedy answer, as JSON whose equality is equality of bits, and what was charged for it. */
  async ask(tokens, options = {}) {
    const response = await this.call('GenerationService', 'generate', requestOf(tokens, options));
    checkUsage(response.usage);
    return answerOf(response);
  }

  /** The stream of an answer. `first` resolves with the first token, `end` with the error or null. */
  open(tokens, options = {}) {
    const call = this.client('GenerationService').generateStream(requestOf(tokens, options));
    const first = new Promise((resolve) => {
      call.on('data', (message) => message.event === 'delta' && resolve());
      call.on('close', resolve);
      call.on('error', resolve);
      call.on('end', resolve);
    });
    const end = new Promise((resolve) => {
      call.on('error', resolve);
      call.on('end', () => resolve(null));
    });
    return { first, end, cancel: () => call.cancel() };
  }

  async probe(tokens, scope = '') {
    const prompt = { tokenIds: { ids: tokens }, scope };
    return (await this.call('CacheService', 'probePrefix', { prompt })).plan;
  }

  purge(selector) {
    return this.call('CacheService', 'purgeCache', selector);
  }

  stats() {
    return this.call('AdminService', 'getCacheStats', {});
  }

  /** Calls back with every event, those of the snapshot first. */
  watch(onEvent) {
    const call = this.client('CacheService').watchCacheEvents({ afterSequence: 0 });
    call.on('data', ({ events }) => {
      for (const event of events) onEvent(event);
    });
    call.on('error', () => {}); // the server is killed under it
    return call;
  }

  /** Waits until nothing of the disk's queue is left to become durable. */
  async settled() {
    let before = '';
    for (let waited = 0; waited < 15_000; waited += 150) {
      const { tiers } = await this.stats();
      const disk = tiers.find(({ tier }) => tier === 'CACHE_TIER_DISK');
      const now = `${disk?.bytesWritten} ${disk?.blocks}`;
      if (now === before) return;
      before = now;
      await sleep(150);
    }
    throw new Error('the disk tier never came to rest');
  }

  /** @returns the exit code, or the name of the signal. */
  async stop(signal = 'SIGTERM') {
    for (const client of Object.values(this.#client)) client.close();
    this.#client = {};
    this.process.kill(signal);
    return this.exit;
  }
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

function requestOf(tokens, { maxTokens = 6, mode = 'CACHE_MODE_READ_WRITE', scope = '' }) {
  return {
    tokenIds: { ids: tokens },
    sampling: { temperature: 0 },
    stop: { maxTokens, ignoreEos: true },
    output: { tokenIds: true, logprobs: true, topLogprobs: 20 },
    cache: { mode, scope },
  };
}

function answerOf({ choices, usage }) {
  const [{ tokenIds, logprobs }] = choices;
  return { ids: tokenIds, usage, bits: JSON.stringify({ tokenIds, logprobs }) };
}

/** Of the default price list, in picos a token: 0.025, 3 and 6 yuan a million. */
const PRICES = { hit: 25_000n, miss: 3_000_000n, output: 6_000_000n };

/** What usage.proto promises of every usage, and the exact cost. */
export function checkUsage(usage) {
  const { promptCacheHitTokens: hit, promptCacheMissTokens: missed, completionTokens: output } = usage;
  assert.equal(usage.promptTokens, hit + missed, 'prompt tokens are hits and misses');
  assert.equal(hit, usage.hitLiveTokens + usage.hitMemoryTokens + usage.hitDiskTokens, 'hits are those of the tiers');
  assert.equal(usage.totalTokens, usage.promptTokens + output, 'total is prompt and completion');
  const picos = BigInt(hit) * PRICES.hit + BigInt(missed) * PRICES.miss + BigInt(output) * PRICES.output;
  assert.deepEqual(usage.cost, {
    currencyCode: 'CNY',
    amountPicos: Number(picos),
    priceList: 'default',
    priceClass: 'standard',
  });
  assert.equal(usage.miss.tokenPosition, hit, 'the miss begins where the hits end');
  assert.notEqual(usage.miss.reason, 'MISS_REASON_UNSPECIFIED');
}
