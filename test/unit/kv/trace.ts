// A day's traffic in small: requests fitted to a public trace of a chat service, as ../shared/design/kv-store.md 2.3
// gives its numbers. A request names its prompt's whole blocks of 512 tokens; equal names, equal tokens up to there.
// What a prompt has beyond its last whole block can never be hit (in the trace it has a name of its own each time).

export const TRACE_BLOCK_TOKENS = 512;

export interface TraceRequest {
  readonly atMs: number;
  readonly promptTokens: number;
  /** Names of whole blocks. */
  readonly blocks: readonly number[];
}

const DURATION_MS = 3_537_000;
const REQUESTS = 12_031;
/** So many that the last of 12,031 requests comes about when the trace ends. */
const SESSIONS = 8_000;
const MULTI_TURN = 0.32;
const MEAN_EXTRA_TURNS = 1.6;
const MAX_FIRST_TEXT = 120_000;
const MAX_PROMPT = 126_000;
/** The shared first block. */
const SYSTEM_BLOCK = 0;

/** `share` below 1 makes fewer sessions and requests in the same time. */
export function traceOf(seed: number, share = 1): TraceRequest[] {
  const random = new Random(seed);
  const requests: TraceRequest[] = [];
  let lastName = SYSTEM_BLOCK;
  for (let session = 0; session < SESSIONS * share; session++) {
    let atMs = random.uniform() * DURATION_MS;
    let tokens = TRACE_BLOCK_TOKENS + Math.min(MAX_FIRST_TEXT, Math.round(random.logNormal(5000, 1.15)));
    const isMultiTurn = random.uniform() < MULTI_TURN;
    const turns = 1 + (isMultiTurn ? Math.max(1, Math.round(random.exponential(MEAN_EXTRA_TURNS))) : 0);
    const names = [SYSTEM_BLOCK];
    for (let turn = 0; turn < turns && tokens <= MAX_PROMPT; turn++) {
      while (names.length < Math.floor(tokens / TRACE_BLOCK_TOKENS)) names.push(++lastName);
      requests.push({ atMs, promptTokens: tokens, blocks: [...names] });
      tokens += Math.round(random.logNormal(300, 0.7)) + Math.round(random.logNormal(900, 1.5));
      atMs += 1000 * random.logNormal(150, 1);
    }
  }
  return requests.sort((a, b) => a.atMs - b.atMs).slice(0, Math.round(REQUESTS * share));
}

export interface TraceFacts {
  readonly requests: number;
  readonly distinctBlocks: number;
  /** Of all mentions of blocks. */
  readonly distinctShare: number;
  /** Of the distinct blocks, a partial last one counted as one of its own. */
  readonly touchedOnceShare: number;
  /** Share of prompt tokens that a cache without limits would hit. */
  readonly infiniteHitRate: number;
  readonly promptTokensP50: number;
  readonly promptTokensP90: number;
}

export function factsOf(trace: readonly TraceRequest[]): TraceFacts {
  const mentions = new Map<number, number>();
  let hitTokens = 0;
  let promptTokens = 0;
  let partial = 0;
  for (const request of trace) {
    const known = request.blocks.findIndex((name) => !mentions.has(name));
    hitTokens += TRACE_BLOCK_TOKENS * (known < 0 ? request.blocks.length : known);
    promptTokens += request.promptTokens;
    for (const name of request.blocks) mentions.set(name, (mentions.get(name) ?? 0) + 1);
    if (request.promptTokens % TRACE_BLOCK_TOKENS !== 0) partial++;
  }
  const counts = [...mentions.values()];
  const lengths = trace.map((request) => request.promptTokens).sort((a, b) => a - b);
  return {
    requests: trace.length,
    distinctBlocks: mentions.size,
    distinctShare: (mentions.size + partial) / (counts.reduce((sum, count) => sum + count, 0) + partial),
    touchedOnceShare: (counts.filter((count) => count === 1).length + partial) / (mentions.size + partial),
    infiniteHitRate: hitTokens / promptTokens,
    promptTokensP50: lengths[Math.floor(lengths.length * 0.5)] as number,
    promptTokensP90: lengths[Math.floor(lengths.length * 0.9)] as number,
  };
}

/** Seeded, with the three distributions that the trace needs. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** In [0, 1): mulberry32. */
  uniform(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  exponential(mean: number): number {
    return -mean * Math.log(1 - this.uniform());
  }

  /** Box-Muller. */
  logNormal(median: number, sigma: number): number {
    const normal = Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
    return median * Math.exp(sigma * normal);
  }
}
