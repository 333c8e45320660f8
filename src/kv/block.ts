// The unit of hashing, storing and reuse, for every folder that counts in it.

/** A restorable boundary is a multiple of it: the compressor of ratio 128 has nothing open there. */
export const BLOCK_TOKENS = 128;

/** Blocks that a prompt can hit at most: one token must be left to compute, or there would be no logits. */
export function hittableBlocks(promptTokens: number): number {
  return Math.max(0, Math.floor((promptTokens - 1) / BLOCK_TOKENS));
}
