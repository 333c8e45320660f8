// The prompt cache of an engine that keeps nothing between requests: every prompt is computed whole.

import { Failure } from '../base/failures.js';
import type { CacheCover, CacheUse, CacheWishes, MissReason, PromptCache } from '../kv/types.js';

/** A prompt needs one token to compute behind a whole block: below this length nothing can hit. */
const HIT_TOKENS_MIN = 129;

export function missCover(promptTokens: number, wishes: Pick<CacheWishes, 'read'>): CacheCover {
  const reason: MissReason = !wishes.read ? 'bypassed' : promptTokens < HIT_TOKENS_MIN ? 'short' : 'not-stored';
  return {
    promptTokens,
    hitLiveTokens: 0,
    hitMemoryTokens: 0,
    hitDiskTokens: 0,
    miss: { reason, tokenPosition: 0, nearestCachedTokens: 0 },
    restoreBytes: 0,
  };
}

export function missUse(promptTokens: number, wishes: Pick<CacheWishes, 'read'>): CacheUse {
  return { ...missCover(promptTokens, wishes), writeTokens: 0, prefixId: null, restoreMs: 0, kvBytesRead: 0 };
}

export const NO_CACHE: PromptCache = {
  probe: (tokens) => missCover(tokens.length, { read: true }),
  pin() {
    throw new Failure('PREFIX_NOT_FOUND', 'nothing is stored under this prefix_id');
  },
  purge: async () => ({ blocks: 0, bytes: 0 }),
  stats: () => ({
    tiers: [],
    hitTokens: 0,
    missTokens: 0,
    misses: new Map(),
    bytesWrittenToday: 0,
    dailyWriteBudgetBytes: 0,
    quarantinedBlocks: 0,
    ioQueueDepth: 0,
    readLatencyP99Ms: 0,
    recovering: false,
    diskProblem: '',
  }),
  watch: () => ({ close: () => {} }),
};
