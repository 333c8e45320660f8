// kill -9 at random moments of a server under load, restarted on the same directory, and what must hold then: it serves, it
// gives the tokens that it gives without a cache, no prefix is gone whose durability WatchCacheEvents told, and none is back
// whose purge was answered.
//
//   node test/e2e/kv/crash.mjs [--kills 200] [--seconds 0] [--seed 1] [--lanes 3] [--keep]
//
// prints JSON. Lanes are independent servers with a directory each; most of a cycle is waiting for the group commit, so that
// three of them keep two cores busy. The last lane has another model, and so little room that regions are reclaimed all the
// time: there a prefix may be evicted, everything else holds. What is expected is written to expected.json of a lane before each check; --keep, or
// a failure, leaves it and the directory behind.

import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { BLOCK, KvServer, makeModel, randomFrom, sleep, temporaryFolder, tokensOf } from './harness.mjs';

const CLIENTS = 3;
/** Between the check after a start and the kill: some kills come before the first group commit, some behind several. */
const LOAD_MS_MAX = 1500;
/** A client thinks so long at most between two calls: kills shall find the server waiting, too. */
const THINK_MS_MAX = 60;
/** One start in so many is killed before it could say anything. */
const KILLED_STARTS = 10;
const CONVERSATION_TOKENS_MAX = 900;
/** Prefixes looked at after each start; those that are new since the last one go first. */
const PROBES = 40;
/** Of these, answered in full and compared. */
const ANSWERS = 5;
const ROOMY = '2GiB';
/** Eight regions of 4 MiB and what stands beside them. */
const TIGHT = '34MiB';
/** Tokens whose points and rows take all of that. */
const FILLING = 7 * CONVERSATION_TOKENS_MAX;

const hashOf = (prefixId) => prefixId.slice(0, 32);
const hex = (bytes) => Buffer.from(bytes).toString('hex');

/** What must be true of one directory, from what its servers said. */
class Expected {
  /** Block hash → the one before it; '' before the first. */
  parents = new Map();
  /** Hash of the deepest stored block of an answered request → its tokens and scope. */
  answered = new Map();
  /** Blocks whose DISK event was seen. */
  durable = new Set();
  /** Blocks whose purge was answered; with unanswered ones nothing is known. */
  purged = new Set();
  unknown = new Set();
  /** Blocks that left the disk and that nobody purged. */
  evicted = 0;

  /** Blocks that `hash` stands on, the first block's first, itself last; null while a parent is not known. */
  chain(hash) {
    const chain = [];
    for (let at = hash; at !== ''; at = this.parents.get(at)) {
      if (at === undefined) return null;
      chain.unshift(at);
    }
    return chain;
  }

  /** Everything whose tokens are known: hash → { tokens, scope, isEnd }. */
  prefixes() {
    const found = new Map();
    for (const [end, { tokens, scope }] of this.answered) {
      const chain = this.chain(end) ?? [];
      chain.forEach((hash, block) => {
        const isEnd = hash === end || found.get(hash)?.isEnd === true;
        found.set(hash, { tokens: tokens.slice(0, (block + 1) * BLOCK), scope, isEnd });
      });
    }
    return found;
  }

  /** All blocks known to stand on `hash`, itself too. */
  below(hash) {
    return [...this.parents.keys()].filter((one) => this.chain(one)?.includes(hash));
  }

  ofScope(scope) {
    return [...this.prefixes()].filter(([, prefix]) => prefix.scope === scope).map(([hash]) => hash);
  }

  onEvent({ stored, removed }) {
    if (removed) {
      const hash = hex(removed.blockHash);
      if (removed.tier !== 'CACHE_TIER_DISK') return;
      this.durable.delete(hash);
      if (!this.purged.has(hash) && !this.unknown.has(hash)) this.evicted += 1;
      return;
    }
    const hash = hex(stored.blockHash);
    this.parents.set(hash, hex(stored.parentHash));
    if (stored.tier === 'CACHE_TIER_DISK') this.durable.add(hash);
  }

  toJSON() {
    const { durable, purged, unknown } = this;
    return { durable: [...durable], purged: [...purged], unknown: [...unknown], parents: [...this.parents] };
  }
}

/** The answers that no cache had a part in, each computed once. */
class Reference {
  #known = new Map();

  constructor(server) {
    this.server = server;
  }

  async of(tokens, maxTokens) {
    const key = `${maxTokens} ${tokens}`;
    if (!this.#known.has(key))
      this.#known.set(key, (await this.server.ask(tokens, { maxTokens, mode: 'CACHE_MODE_BYPASS' })).bits);
    return this.#known.get(key);
  }
}

class Lane {
  #expected = new Expected();
  /** Durable before the last kill and not looked at since. */
  #fresh = new Set();
  #conversations = [];
  #numScopes = 0;

  constructor(number, isTight, folder, model, reference, seed, counts) {
    Object.assign(this, { number, isTight, model, reference, counts });
    this.random = randomFrom(seed * 101 + number);
    this.folder = join(folder, `lane-${number}`);
    this.dir = join(this.folder, 'kv');
    mkdirSync(this.dir, { recursive: true });
  }

  /** Kills taken from `left` until none is left, then a last look at everything. */
  async run(left) {
    if (this.isTight) await this.#fill();
    while (left.kills > 0 && Date.now() < left.endMs) {
      left.kills -= 1;
      await this.#cycle();
      this.counts.kills += 1;
    }
    const server = await this.#start();
    await this.#check(server, Number.POSITIVE_INFINITY);
    await server.stop();
    this.counts.evicted += this.#expected.evicted;
  }

  /** Nothing is reclaimed on a disk that has room, and a lane of some ten kills would not fill it. */
  async #fill() {
    const server = await this.#start();
    for (let written = 0; written < FILLING; written += CONVERSATION_TOKENS_MAX) {
      await server.ask(tokensOf(CONVERSATION_TOKENS_MAX, this.random(1e9)), { maxTokens: 1, scope: 'filling' });
    }
    await server.stop();
  }

  #settings() {
    const io = ['uring', 'pool', 'mmap'][this.random(3)];
    const quota = this.isTight ? TIGHT : ROOMY;
    // Nothing kept in RAM: what is found after a while comes from the disk as well.
    const memory = this.random(2) === 0 ? ['--kv-memory', '0'] : [];
    // A point at every block fills little room soon.
    const points = this.isTight ? ['--kv-points', 'full'] : [];
    return { model: this.model, dir: this.dir, flags: ['--io', io, '--kv-max-bytes', quota, ...memory, ...points] };
  }

  async #start() {
    const server = await KvServer.start(this.#settings());
    this.counts.starts += 1;
    this.counts.slowestStartMs = Math.max(this.counts.slowestStartMs, Math.round(server.startMs));
    return server;
  }

  async #cycle() {
    if (this.random(KILLED_STARTS) === 0) {
      const early = new KvServer(this.#settings());
      await sleep(this.random(900));
      await early.stop('SIGKILL');
      this.counts.killedStarts += 1;
    }
    const server = await this.#start();
    try {
      await this.#check(server, PROBES);
      const before = new Set(this.#expected.durable);
      const watching = server.watch((event) => this.#expected.onEvent(event));
      const end = { isOver: false };
      const clients = Array.from({ length: CLIENTS }, () => this.#client(server, end));
      await sleep(100 + this.random(LOAD_MS_MAX));
      end.isOver = true;
      await server.stop('SIGKILL');
      watching.cancel();
      await Promise.all(clients);
      for (const hash of this.#expected.durable) if (!before.has(hash)) this.#fresh.add(hash);
    } finally {
      await server.stop('SIGKILL');
    }
  }

  // --- load ---

  async #client(server, end) {
    while (!end.isOver) {
      try {
        await this.#act(server, end);
        await sleep(this.random(THINK_MS_MAX));
      } catch (error) {
        // Calls die with their server; before it is killed, none may fail.
        if (!end.isOver) this.#failure('a call failed on a server that lives', { error: String(error) });
        if (!end.isOver) throw error;
      }
    }
  }

  async #act(server, end) {
    const dice = this.random(20);
    if (dice < 2) return this.#purge(server);
    const conversation = this.#take(dice < 8);
    if (dice < 5) {
      const stream = server.open(conversation.tokens, { maxTokens: 40, scope: conversation.scope });
      await Promise.race([stream.first, sleep(this.random(60))]);
      stream.cancel();
      await stream.end;
    } else {
      const maxTokens = 1 + this.random(30);
      const { ids, usage, bits } = await server.ask(conversation.tokens, { maxTokens, scope: conversation.scope });
      this.counts.requests += 1;
      this.counts.hitTokens += usage.promptCacheHitTokens;
      const tokens = [...conversation.tokens, ...ids];
      if (usage.prefixId !== '') {
        const { scope } = conversation;
        this.#expected.answered.set(hashOf(usage.prefixId), { tokens, scope });
        conversation.ends.push(usage.prefixId);
      }
      // What clients were told is looked at now and then; the rest of the looking is done after the kill.
      if (!end.isOver && this.random(8) === 0) await this.#compare(conversation.tokens, maxTokens, bits, 'under load');
      conversation.tokens = tokens;
    }
    conversation.tokens = [...conversation.tokens, ...tokensOf(20 + this.random(150), this.random(1e9))];
    this.#conversations.push(conversation);
  }

  /** One that nobody works on now, or a new one. */
  #take(isNew) {
    const index = this.random(Math.max(1, this.#conversations.length));
    const [found] = isNew ? [] : this.#conversations.splice(index, 1);
    if (found && found.tokens.length < CONVERSATION_TOKENS_MAX) return found;
    // Half of them share their beginning with others; the rest are alone in a scope, which can be purged.
    const isShared = this.random(2) === 0;
    const scope = isShared ? '' : `lane-${this.number}-${++this.#numScopes}`;
    const system = tokensOf(140 + this.random(2) * 128, isShared ? this.random(3) + 1 : this.random(1e9));
    const tokens = [...system, ...tokensOf(30 + this.random(200), this.random(1e9))];
    return { scope, tokens, ends: [], sharedBlocks: isShared ? Math.floor(system.length / BLOCK) : 0 };
  }

  /** Ends a conversation for good: its whole scope, or what its last turn added to a beginning that others share. */
  async #purge(server) {
    const conversation = this.#take(false);
    const { scope, ends, sharedBlocks } = conversation;
    const prefixId = ends.at(-1);
    const last = prefixId ? hashOf(prefixId) : '';
    const chain = (prefixId && this.#expected.chain(last)) || [];
    const isScope = scope !== '';
    // Of a beginning that others share, nobody could tell whether it is back or made anew.
    if (chain.length <= sharedBlocks) {
      this.#conversations.push(conversation);
      return;
    }
    const selected = () => (isScope ? this.#expected.ofScope(scope) : this.#expected.below(last));
    for (const hash of selected()) this.#expected.unknown.add(hash);
    await server.purge(isScope ? { scope } : { prefixId });
    for (const hash of selected()) {
      this.#expected.unknown.delete(hash);
      this.#expected.purged.add(hash);
    }
    this.counts.purges += 1;
  }

  // --- what holds after a start ---

  async #check(server, probes) {
    const { purged, unknown, durable } = this.#expected;
    writeFileSync(join(this.folder, 'expected.json'), JSON.stringify(this.#expected));
    const prefixes = this.#expected.prefixes();
    const isOpen = (hash) => prefixes.has(hash) && !purged.has(hash) && !unknown.has(hash);
    const kept = [...durable].filter(isOpen).sort((a, b) => this.#fresh.has(b) - this.#fresh.has(a));
    const some = (list) => (list.length <= probes ? list : this.#pick(list, probes));
    for (const hash of some(kept)) {
      await this.#checkKept(server, hash, prefixes.get(hash));
      this.#fresh.delete(hash);
    }
    for (const hash of some([...purged].filter((one) => prefixes.has(one)))) {
      const { tokens, scope } = prefixes.get(hash);
      const plan = await server.probe([...tokens, 1], scope);
      this.counts.purgedProbes += 1;
      const found = Math.max(hitsOf(plan), plan.miss.nearestCachedTokens);
      if (found >= tokens.length) {
        this.counts.resurrected += 1;
        this.#failure('what was purged is back', { hash, plan });
      }
    }
    for (const hash of this.#pick([...prefixes.keys()], ANSWERS)) {
      const { tokens, scope } = prefixes.get(hash);
      // Reads only: what was purged must not be made again by looking for it.
      const options = { maxTokens: 2, scope, mode: 'CACHE_MODE_READ_ONLY' };
      const { bits, usage } = await server.ask([...tokens, 1], options);
      this.counts.restoredTokens += usage.hitDiskTokens;
      if (purged.has(hash) && usage.promptCacheHitTokens >= tokens.length) {
        this.counts.resurrected += 1;
        this.#failure('what was purged hits', { hash, usage });
      }
      await this.#compare([...tokens, 1], 2, bits, 'after a restart');
    }
    const { quarantinedBlocks } = await server.stats();
    this.counts.quarantined += quarantinedBlocks;
  }

  async #checkKept(server, hash, { tokens, scope, isEnd }) {
    const plan = await server.probe([...tokens, 1], scope);
    this.counts.durableProbes += 1;
    if (hitsOf(plan) >= tokens.length) return;
    if (plan.miss.nearestCachedTokens >= tokens.length) {
      // Rows without a point: between the ends of two turns there is none.
      if (isEnd) this.counts.endsWithoutPoint += 1;
      return;
    }
    if (this.isTight) return;
    this.counts.lost += 1;
    this.#failure('a durable prefix is lost', { hash, length: tokens.length, plan });
  }

  async #compare(tokens, maxTokens, bits, when) {
    this.counts.compared += 1;
    if ((await this.reference.of(tokens, maxTokens)) === bits) return;
    this.counts.wrong += 1;
    this.#failure(`an answer is wrong ${when}`, { tokens: tokens.length });
  }

  /** From the front half of the time, so that what is new is always looked at, and from anywhere. */
  #pick(list, number) {
    const front = list.slice(0, Math.ceil(number / 2));
    const rest = list.slice(front.length);
    while (front.length < number && rest.length > 0) front.push(...rest.splice(this.random(rest.length), 1));
    return front;
  }

  #failure(what, facts) {
    const line = JSON.stringify({ what, lane: this.number, kill: this.counts.kills, ...facts });
    appendFileSync(join(this.folder, 'failures.jsonl'), `${line}\n`);
    if (this.counts.failures.length < 20) this.counts.failures.push(line);
  }
}

const hitsOf = ({ hitLiveTokens, hitMemoryTokens, hitDiskTokens }) => hitLiveTokens + hitMemoryTokens + hitDiskTokens;

/** @returns counts; `wrong`, `lost` and `resurrected` are 0 and `failures` empty where all is well. */
/** `seconds`: no kill after that; 0: no limit. */
export async function crash({ kills, seed, lanes, seconds = 0, keep = false }) {
  const beganMs = performance.now();
  const folder = temporaryFolder('kv-crash');
  const counts = {
    ...{ seed, lanes, kills: 0, killedStarts: 0, starts: 0, slowestStartMs: 0, requests: 0, purges: 0, compared: 0 },
    ...{ durableProbes: 0, purgedProbes: 0, hitTokens: 0, restoredTokens: 0, endsWithoutPoint: 0, evicted: 0 },
    ...{ quarantined: 0, wrong: 0, lost: 0, resurrected: 0, failures: [] },
  };
  const models = ['narrow', 'heavy'].map((name) => makeModel(folder.path, name));
  const servers = await Promise.all(models.map((model) => KvServer.start({ model })));
  try {
    const references = servers.map((server) => new Reference(server));
    const left = { kills, endMs: seconds > 0 ? Date.now() + seconds * 1000 : Infinity };
    const all = Array.from({ length: lanes }, (_, lane) => {
      const isTight = lanes > 1 && lane === lanes - 1;
      const [model, reference] = [models[+isTight], references[+isTight]];
      return new Lane(lane, isTight, folder.path, model, reference, seed, counts).run(left);
    });
    await Promise.all(all);
    return { ...counts, seconds: Math.round((performance.now() - beganMs) / 1000) };
  } catch (error) {
    counts.failures.push(String(error));
    throw new Error(`${JSON.stringify(counts)} in ${folder.path}`, { cause: error });
  } finally {
    for (const server of servers) await server.stop('SIGKILL');
    if (!keep && counts.failures.length === 0) folder.remove();
    else console.error(`left behind: ${folder.path}`);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      kills: { type: 'string', default: '200' },
      seconds: { type: 'string', default: '0' },
      seed: { type: 'string', default: '1' },
      lanes: { type: 'string', default: '3' },
      keep: { type: 'boolean', default: false },
    },
  });
  const { kills, seconds, seed, lanes, keep } = values;
  const limits = { kills: Number(kills), seconds: Number(seconds) };
  const counts = await crash({ ...limits, seed: Number(seed), lanes: Number(lanes), keep });
  console.log(JSON.stringify(counts, null, 1));
  process.exitCode = counts.failures.length === 0 ? 0 : 1;
}
