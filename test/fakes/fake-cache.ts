// A PromptCache that remembers prefixes in a map, by rule and at once: what a request computed is a hit for the next one in
// the same scope, at multiples of 128. No bytes, no disk; which tier hits come from is up to the test.

import { createHash } from 'node:crypto';
import { Failure } from '../../src/base/failures.js';
import type {
  CacheCover,
  CacheEvent,
  CacheMiss,
  CacheStats,
  CacheSubscription,
  CacheTier,
  CacheUse,
  CacheWishes,
  MissReason,
  PromptCache,
  PurgeSelector,
} from '../../src/kv/types.js';

const BLOCK = 128;
const BLOCK_BYTES = 1000;

interface Stored {
  readonly scope: string;
  readonly tokens: readonly number[];
  /** 64 hexadecimal digits. */
  readonly id: string;
}

type Reader = Parameters<PromptCache['watch']>[1];

export class FakeCache implements PromptCache {
  /** Where hits come from. */
  tier: CacheTier = 'memory';
  /** purge() rejects with it. */
  purgeFailure: Failure | null = null;
  /** stats() is this on top of the counters. */
  statsOverrides: Partial<CacheStats> = {};
  readonly pins = new Map<string, number>();
  readonly purges: PurgeSelector[] = [];
  readonly #stored = new Map<string, Stored>();
  readonly #readers = new Set<Reader>();
  #sequence = 0;
  #hitTokens = 0;
  #missTokens = 0;

  probe(tokens: Uint32Array, scope: string): CacheCover {
    return this.cover(tokens, { read: true, write: true, scope, boundaries: [] });
  }

  cover(tokens: Uint32Array, wishes: CacheWishes): CacheCover {
    const promptTokens = tokens.length;
    const most = Math.floor((promptTokens - 1) / BLOCK) * BLOCK;
    let hit = wishes.read ? most : 0;
    while (hit > 0 && !this.#stored.has(idOf(wishes.scope, tokens.subarray(0, hit)))) hit -= BLOCK;
    const { tier } = this;
    return {
      promptTokens,
      hitLiveTokens: tier === 'live' ? hit : 0,
      hitMemoryTokens: tier === 'memory' ? hit : 0,
      hitDiskTokens: tier === 'disk' ? hit : 0,
      miss: this.#miss(hit, most, wishes),
      restoreBytes: tier === 'disk' ? (hit / BLOCK) * BLOCK_BYTES : 0,
    };
  }

  /** What the engine does when a request ends. */
  finish(tokens: Uint32Array, wishes: CacheWishes, cover: CacheCover): CacheUse {
    const hitTokens = cover.hitLiveTokens + cover.hitMemoryTokens + cover.hitDiskTokens;
    this.#hitTokens += hitTokens;
    this.#missTokens += cover.promptTokens - hitTokens;
    const most = Math.floor((tokens.length - 1) / BLOCK) * BLOCK;
    const isKept = wishes.write && most > 0;
    let newTokens = 0;
    for (let end = BLOCK; isKept && end <= most; end += BLOCK) {
      if (this.#store(wishes.scope, tokens.subarray(0, end))) newTokens += BLOCK;
    }
    return {
      ...cover,
      writeTokens: newTokens,
      prefixId: isKept ? idOf(wishes.scope, tokens.subarray(0, most)) : null,
      restoreMs: cover.hitDiskTokens > 0 ? 2.5 : 0,
      kvBytesRead: cover.restoreBytes,
    };
  }

  async pin(prefixId: string, untilMs: number | null): Promise<number> {
    const stored = this.#stored.get(prefixId);
    if (!stored) throw new Failure('PREFIX_NOT_FOUND', 'nothing is stored under this prefix_id');
    if (untilMs === null) this.pins.delete(prefixId);
    else this.pins.set(prefixId, untilMs);
    return (stored.tokens.length / BLOCK) * BLOCK_BYTES;
  }

  async purge(selector: PurgeSelector): Promise<{ blocks: number; bytes: number }> {
    this.purges.push(selector);
    if (this.purgeFailure) throw this.purgeFailure;
    const front = selector.prefixId === null ? [] : (this.#stored.get(selector.prefixId)?.tokens ?? null);
    const doomed = [...this.#stored.values()].filter(
      ({ scope, tokens }) =>
        (selector.scope === null || scope === selector.scope) &&
        front?.every((token, index) => tokens[index] === token),
    );
    if (!selector.dryRun) for (const stored of doomed) this.#remove(stored);
    return { blocks: doomed.length, bytes: doomed.length * BLOCK_BYTES };
  }

  stats(): CacheStats {
    return {
      tiers: [],
      hitTokens: this.#hitTokens,
      missTokens: this.#missTokens,
      misses: new Map(),
      bytesWrittenToday: 0,
      dailyWriteBudgetBytes: 0,
      quarantinedBlocks: 0,
      ioQueueDepth: 0,
      readLatencyP99Ms: 0,
      recovering: false,
      diskProblem: '',
      ...this.statsOverrides,
    };
  }

  get numReaders(): number {
    return this.#readers.size;
  }

  watch(afterSequence: number, onEvents: Reader): CacheSubscription {
    this.#readers.add(onEvents);
    const snapshot = [...this.#stored.values()].map(({ scope, tokens }) => this.#storedEvent(scope, tokens));
    if (afterSequence === 0 && snapshot.length > 0) onEvents(this.#sequence - snapshot.length + 1, snapshot, false);
    return { close: () => void this.#readers.delete(onEvents) };
  }

  /** As if that had happened. */
  emit(events: readonly CacheEvent[], reset = false): void {
    const first = this.#sequence + 1;
    this.#sequence += events.length;
    for (const reader of this.#readers) reader(first, events, reset);
  }

  #miss(hit: number, most: number, { read, scope }: CacheWishes): CacheMiss {
    const isKnown = [...this.#stored.values()].some((stored) => stored.scope === scope);
    const reason: MissReason = !read
      ? 'bypassed'
      : most === 0
        ? 'short'
        : hit === most
          ? 'none'
          : hit > 0
            ? 'diverged'
            : isKnown
              ? 'new'
              : 'not-stored';
    return { reason, tokenPosition: hit, nearestCachedTokens: 0 };
  }

  /** False when it was there. */
  #store(scope: string, prefix: Uint32Array): boolean {
    const id = idOf(scope, prefix);
    if (this.#stored.has(id)) return false;
    this.#stored.set(id, { scope, tokens: [...prefix], id });
    this.emit([this.#storedEvent(scope, [...prefix])]);
    return true;
  }

  #remove({ id, scope }: Stored): void {
    this.#stored.delete(id);
    this.emit([{ t: 'removed', tier: this.tier, blockHash: hashOf(id), scopeTag: tagOf(scope) }]);
  }

  #storedEvent(scope: string, tokens: readonly number[]): CacheEvent {
    const parent = Uint32Array.from(tokens.slice(0, -BLOCK));
    return {
      t: 'stored',
      tier: this.tier,
      blockHash: hashOf(idOf(scope, Uint32Array.from(tokens))),
      parentHash: parent.length === 0 ? new Uint8Array(0) : hashOf(idOf(scope, parent)),
      tokens: tokens.slice(-BLOCK),
      scopeTag: tagOf(scope),
    };
  }
}

function idOf(scope: string, tokens: Uint32Array): string {
  return createHash('sha256')
    .update(JSON.stringify([scope, ...tokens]))
    .digest('hex');
}

const hashOf = (id: string): Uint8Array => Uint8Array.from(Buffer.from(id, 'hex').subarray(0, 16));
const tagOf = (scope: string): Uint8Array =>
  Uint8Array.from(createHash('sha256').update(scope).digest().subarray(0, 16));
