// Where a prompt gets points (state from which decoding can go on) and how its rows are cut into segments. Pure.
// Why these places: ../shared/design/kv-store.md 2.4; ends, branches and every 4,096 tokens keep 99 % of the hits that
// a point at every block would allow, at a fraction of its bytes.

import { BLOCK_TOKENS, hittableBlocks } from './block.js';

export const POINT_MODES = ['full', 'periodic', 'ends', 'replay'] as const;
/** full: every block. periodic: ends, wishes, branches, every 4,096 tokens. ends: ends and wishes. replay: none. */
export type PointMode = (typeof POINT_MODES)[number];

/** In `periodic`: what at most is computed again where a prompt leaves a stored one, against 4 MB a point. */
export const POINT_PERIOD_TOKENS = 4096;
/** Rows of a segment at most; segments end at its multiples, so that equal prefixes make equal segments. */
export const SEGMENT_TOKENS = 4096;
const SEGMENT_BLOCKS = SEGMENT_TOKENS / BLOCK_TOKENS;

export interface PointRequest {
  readonly mode: PointMode;
  readonly promptTokens: number;
  /** Prompt and output together end here at the latest: long answers get points on their way too. */
  readonly totalTokens: number;
  /** Tokens that are there already, point included: nothing is placed at or before them. */
  readonly start: number;
  /** Where the caller wants one, in tokens; rounded down to a block. */
  readonly boundaries: readonly number[];
  /** Tokens up to which the prompt is stored although no point is there: another prompt parts here. null: nowhere. */
  readonly branchAt: number | null;
}

/** Positions for points, in tokens, ascending. The last one that a prompt can have is what makes it hit when it comes again. */
export function pointBoundaries(request: PointRequest): number[] {
  const { mode, promptTokens, totalTokens, start, boundaries, branchAt } = request;
  const last = hittableBlocks(promptTokens) * BLOCK_TOKENS;
  const wished = new Set<number>();
  if (mode !== 'replay') for (const tokens of [last, ...boundaries]) wished.add(roundedDown(tokens));
  if (mode === 'periodic' && branchAt !== null) wished.add(roundedDown(branchAt));
  const period = mode === 'full' ? BLOCK_TOKENS : mode === 'periodic' ? POINT_PERIOD_TOKENS : null;
  if (period !== null)
    for (let at = (Math.floor(start / period) + 1) * period; at <= totalTokens; at += period) wished.add(at);
  return [...wished].filter((at) => at > start && at <= totalTokens).sort((a, b) => a - b);
}

export interface BlockRange {
  readonly fromBlock: number;
  readonly toBlock: number;
}

/** Segments for blocks [fromBlock, toBlock), none with more than `maxBlocks`, which is what a region can hold. */
export function segmentsFor(fromBlock: number, toBlock: number, maxBlocks: number): BlockRange[] {
  if (maxBlocks < 1) throw new RangeError('a segment holds at least one block');
  // A power of two divides the multiples of 4,096 tokens: cuts fall on those whatever the size of a region.
  let unit = SEGMENT_BLOCKS;
  while (unit > maxBlocks) unit /= 2;
  const ranges: BlockRange[] = [];
  for (let from = fromBlock; from < toBlock; ) {
    const to = Math.min(toBlock, (Math.floor(from / unit) + 1) * unit);
    ranges.push({ fromBlock: from, toBlock: to });
    from = to;
  }
  return ranges;
}

function roundedDown(tokens: number): number {
  return Math.floor(tokens / BLOCK_TOKENS) * BLOCK_TOKENS;
}
