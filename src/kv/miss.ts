// Why the rest of a prompt has to be computed: what clients are told of a miss. Pure: looks, changes nothing.

import { BLOCK_TOKENS, hittableBlocks } from './block.js';
import type { DiskTier } from './disk-tier.js';
import type { Lease } from './lease.js';
import type { Start } from './start.js';
import type { HashKey } from './store.js';
import type { CacheMiss, MissReason } from './types.js';

/**
 * @param own tags of the request's identity and scope
 * @param disk null: none is attached; `expectsDisk` tells whether one will be
 * @param isReadable whether this request may read from it now
 */
export function explainMiss(
  { request, chain, plainChain, promptTokens }: Lease,
  start: Start,
  own: { readonly identity: string; readonly scope: string },
  disk: DiskTier | null,
  isReadable: boolean,
  expectsDisk: boolean,
): CacheMiss {
  const at = (reason: MissReason, nearestBlocks = 0): CacheMiss => ({
    reason,
    tokenPosition: start.tokens,
    nearestCachedTokens: nearestBlocks * BLOCK_TOKENS,
  });
  if (!request.wishes.read) return at('bypassed');
  const hittable = hittableBlocks(promptTokens);
  if (hittable === 0) return at('short');
  if (start.tokens >= hittable * BLOCK_TOKENS) return at('none');
  const hit = Math.floor(start.tokens / BLOCK_TOKENS);
  if (start.known > hit) return at('no-point', start.known);
  if (!disk) return at(expectsDisk ? 'recovering' : hit > 0 ? 'diverged' : 'new');
  const onDisk = disk.index.find(chain).blocks;
  if (!isReadable && onDisk > hit) return at('unavailable', onDisk);
  if (disk.recovering) return at('recovering');
  if (disk.wasNotStored(chain[hit] as HashKey)) return at('not-stored');
  const { reason, nearestBlocks } = disk.index.explain(chain, hit, own, () => plainChain);
  return at(reason, nearestBlocks);
}
