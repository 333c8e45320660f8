// Where a prompt can start: the longest prefix whose rows lie in RAM or on the disk and behind which there is a point.
// Pure: looks, holds nothing, changes nothing.
//
//   0            start            known       hittable          prompt
//   |--in place--|--computed again--|--computed----|--at least one token--|
//                ▲ deepest point      ▲ deepest stored row; a point belongs there: the next prompt of this branch hits it

import { BLOCK_TOKENS, hittableBlocks } from './block.js';
import type { DiskIndex, IndexedRecord, Piece } from './disk-index.js';
import type { HitTokens } from './lease.js';
import type { PointMode } from './points.js';
import type { PointHandle, RamTier } from './ram-tier.js';
import type { HashKey } from './store.js';

/** Consecutive blocks of one segment that are to be read. */
export interface Run extends Piece {
  /** Number of the first one in the prompt. */
  readonly first: number;
}

export interface Start {
  /** Tokens that need not be computed. */
  readonly tokens: number;
  /** Whole blocks that are in place, more than `tokens` where windows are replayed. */
  readonly blocks: number;
  readonly point:
    | { readonly t: 'ram'; readonly handle: PointHandle }
    | { readonly t: 'disk'; readonly record: IndexedRecord }
    /** From the beginning, or by replay. */
    | null;
  /** Blocks that are on the disk only. */
  readonly runs: readonly Run[];
  /** Blocks whose rows are known, restorable or not. */
  readonly known: number;
}

export interface StartQuestion {
  readonly tokens: Uint32Array;
  readonly chain: readonly HashKey[];
  /** Hash before the first block. */
  readonly root: HashKey;
  readonly mode: PointMode;
  /** Tokens that a replay computes again: (window - 1) x layers. */
  readonly replayTokens: number;
}

/** `disk`: null where it cannot be read now. */
export function findStart(question: StartQuestion, ram: RamTier, disk: DiskIndex | null): Start {
  const { tokens, chain, mode } = question;
  const hittable = hittableBlocks(tokens.length);
  const stored = disk?.find(chain) ?? { blocks: 0, pieces: [] };
  const inRam = chain.map((key) => ram.find(key) !== undefined);
  let known = 0;
  while (known < chain.length && (inRam[known] || known < stored.blocks)) known++;

  if (mode === 'replay') return replayed(question, Math.min(known, hittable), inRam, stored.pieces, known);
  let blocks = Math.min(known, hittable);
  let point: Start['point'] = null;
  for (; blocks > 0; blocks--) {
    const key = chain[blocks - 1] as HashKey;
    const handle = ram.pointAt(key);
    if (handle !== undefined) point = { t: 'ram', handle };
    else {
      const record = disk?.pointAt(key) ?? null;
      if (record) point = { t: 'disk', record };
    }
    if (point) break;
  }
  const tail = longestTail(question, ram, inRam, blocks);
  if (tail) return { ...tail, runs: [], known };
  return { tokens: blocks * BLOCK_TOKENS, blocks, point, runs: missing(stored.pieces, inRam, blocks), known };
}

/** A kept sequence whose every token the prompt begins with, further than `blocks` blocks. */
function longestTail({ tokens, chain, root }: StartQuestion, ram: RamTier, inRam: readonly boolean[], blocks: number) {
  let wholeInRam = 0;
  while (wholeInRam < chain.length && inRam[wholeInRam]) wholeInRam++;
  for (let block = Math.min(wholeInRam, hittableBlocks(tokens.length)); block >= blocks; block--) {
    const from = block * BLOCK_TOKENS;
    const fitting = ram
      .tailsAt(block === 0 ? root : (chain[block - 1] as HashKey))
      .filter((tail) => from + tail.tokens.length < tokens.length)
      .filter((tail) => tail.tokens.every((token, index) => token === tokens[from + index]));
    const longest = fitting.sort((a, b) => b.tokens.length - a.tokens.length)[0];
    if (!longest) continue;
    return {
      tokens: from + longest.tokens.length,
      blocks: block,
      point: { t: 'ram', handle: longest.handle } as const,
    };
  }
  return null;
}

function replayed(
  { replayTokens }: StartQuestion,
  blocks: number,
  inRam: readonly boolean[],
  pieces: readonly Piece[],
  known: number,
): Start {
  const from = Math.floor((blocks * BLOCK_TOKENS - replayTokens) / BLOCK_TOKENS) * BLOCK_TOKENS;
  if (from <= 0) return { tokens: 0, blocks: 0, point: null, runs: [], known };
  return { tokens: from, blocks, point: null, runs: missing(pieces, inRam, blocks), known };
}

/** Of the first `blocks` blocks what must come from the disk. */
function missing(pieces: readonly Piece[], inRam: readonly boolean[], blocks: number): Run[] {
  const runs: Run[] = [];
  let first = 0;
  for (const piece of pieces) {
    const end = Math.min(first + piece.blocks, blocks);
    for (let block = first; block < end; block++) {
      if (inRam[block]) continue;
      const last = runs.at(-1);
      if (last && last.id === piece.id && last.first + last.blocks === block) {
        runs[runs.length - 1] = { ...last, blocks: last.blocks + 1 };
      } else runs.push({ ...piece, skip: piece.skip + block - first, first: block, blocks: 1 });
    }
    first += piece.blocks;
  }
  return runs;
}

/** The first block that a restore touches; a point that is read back counts as its block. Without a restore: where it starts. */
export function firstRestored({ runs, point, blocks }: Start): number {
  return runs[0]?.first ?? (point?.t === 'disk' ? blocks - 1 : blocks);
}

/** Where the tokens lie that need not be computed. `hasWaited`: another made them for it just now, so all it shares is live. */
export function hitTokens(start: Start, chain: readonly HashKey[], ram: RamTier, hasWaited: boolean): HitTokens {
  const hits = { live: 0, memory: 0, disk: 0 };
  const whole = Math.min(start.blocks, Math.floor(start.tokens / BLOCK_TOKENS));
  for (let block = 0; block < whole; block++) {
    const slot = ram.find(chain[block] as HashKey);
    if (slot === undefined) hits.disk += BLOCK_TOKENS;
    else if (hasWaited || ram.isHeld(slot)) hits.live += BLOCK_TOKENS;
    else hits.memory += BLOCK_TOKENS;
  }
  hits.memory += start.tokens - whole * BLOCK_TOKENS;
  return hits;
}
