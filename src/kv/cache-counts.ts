// What GetCacheStats tells: hits by tier and misses by reason since the start, beside what the tiers hold now.

import type { DiskTier } from './disk-tier.js';
import type { HitTokens } from './lease.js';
import type { RamTier } from './ram-tier.js';
import type { CacheMiss, CacheStats, MissReason } from './types.js';

type DiskStats = ReturnType<DiskTier['stats']>;
/** Where there is none, or none yet. */
type NoDisk = Pick<DiskStats, 'recovering' | 'problem'> & { readonly tier?: undefined };

export class CacheCounts {
  readonly #hits = { live: 0, memory: 0, disk: 0 };
  readonly #misses = new Map<MissReason, { requests: number; tokens: number }>();
  #missTokens = 0;

  /** Of a request that is over. */
  add(hits: HitTokens, miss: CacheMiss, promptTokens: number): void {
    for (const tier of ['live', 'memory', 'disk'] as const) this.#hits[tier] += hits[tier];
    const missed = Math.max(0, promptTokens - hits.live - hits.memory - hits.disk);
    this.#missTokens += missed;
    const of = this.#misses.get(miss.reason) ?? { requests: 0, tokens: 0 };
    this.#misses.set(miss.reason, { requests: of.requests + 1, tokens: of.tokens + missed });
  }

  stats(
    ram: RamTier['stats'],
    { blockBytes, keptBytesMax, numSlots }: Record<'blockBytes' | 'keptBytesMax' | 'numSlots', number>,
    disk: DiskStats | NoDisk,
  ): CacheStats {
    const hits = this.#hits;
    const none = { pinnedBlocks: 0, bytesRead: 0, bytesWritten: 0 };
    const known = disk.tier ? disk : null;
    return {
      tiers: [
        {
          tier: 'live',
          bytesUsed: ram.heldBlocks * blockBytes,
          bytesLimit: numSlots * blockBytes,
          blocks: ram.heldBlocks,
          hitTokens: hits.live,
          evictions: 0,
          ...none,
        },
        {
          tier: 'memory',
          bytesUsed: ram.keptBytes,
          bytesLimit: keptBytesMax,
          blocks: ram.keptBlocks,
          hitTokens: hits.memory,
          evictions: ram.evictions,
          ...none,
        },
        ...(known ? [{ ...known.tier, hitTokens: hits.disk }] : []),
      ],
      hitTokens: hits.live + hits.memory + hits.disk,
      missTokens: this.#missTokens,
      misses: this.#misses,
      bytesWrittenToday: known?.bytesWrittenToday ?? 0,
      dailyWriteBudgetBytes: known?.dailyWriteBudgetBytes ?? 0,
      quarantinedBlocks: known?.quarantined ?? 0,
      ioQueueDepth: known?.ioQueued ?? 0,
      readLatencyP99Ms: known?.readP99Ms ?? 0,
      recovering: disk.recovering,
      diskProblem: disk.problem,
    };
  }
}
