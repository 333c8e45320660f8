// Arithmetic of `nandu plan`: what KV takes in memory and on disk, how long it takes to come back, and what it saves.
// Formulas and figures: deepseek-v4.md §3.2 and §4.2, kv-store.md §3. Nothing here measures or prints.

import { BLOCK_TOKENS } from '../kv/block.js';

/** As much of a model as its KV depends on. */
export interface KvGeometry {
  readonly name: string;
  /** Layers by kind. */
  readonly plain: number;
  readonly csa: number;
  readonly hca: number;
  /** Sliding window, in tokens. */
  readonly window: number;
  readonly headDim: number;
  readonly indexDim: number;
  /** Prompt and output together. */
  readonly context: number;
  readonly weightBytes: number;
}

/** Bytes of one compressed row, and of one row of the indexer. */
export interface RowBytes {
  readonly main: number;
  readonly index: number;
}

/** What the server keeps: e4m3 and bf16 with scales, and e2m1 with scales (deepseek-v4.md §4.1). */
export const OUR_ROWS: RowBytes = { main: 584, index: 68 };
/** What gives the 5.48 GB for 1,000,000 tokens of V4-Pro: 8-bit indexer rows, without their scales. */
export const PUBLISHED_ROWS: RowBytes = { main: 584, index: 128 };

const CSA_RATIO = 4;
const HCA_RATIO = 128;
/** K and S, four bytes each, of the last complete CSA window. */
const CARRY_BYTES_PER_DIM = CSA_RATIO * 2 * 4;

const PAGE_BYTES = 4096;
/** Largest segment: a few MiB, read in one go (kv-store.md §3.1). */
const SEGMENT_TOKENS_MAX = 4096;
/** Distance of points inside a long prompt. */
const POINT_TOKENS = 4096;
/** Rows of a prefill step: the weights are read once for all of them. */
const STEP_TOKENS = 512;
/** A restored byte crosses memory when the device writes it, and twice when it is copied to its place. */
const MEMORY_PASSES = 3;

// Weights: routed experts in MXFP4 and what every token reads in Q8_0 (deepseek-v4.md §1).
const FLASH_WEIGHT_BYTES = 13_369_344 * 256 * 43 + 7.2e9;
const PRO_WEIGHT_BYTES = 35_094_528 * 384 * 61 + 26.2e9;

const shared = { window: 128, headDim: 512, indexDim: 128, context: 2 ** 20 };
export const PRESETS = {
  'V4-Flash': { name: 'V4-Flash', plain: 2, csa: 21, hca: 20, ...shared, weightBytes: FLASH_WEIGHT_BYTES },
  'V4-Pro': { name: 'V4-Pro', plain: 0, csa: 30, hca: 31, ...shared, weightBytes: PRO_WEIGHT_BYTES },
} as const satisfies Record<string, KvGeometry>;

export interface KindBytes {
  readonly csa: number;
  readonly hca: number;
  readonly total: number;
}

/** Compressed rows of one token, by kind of layer. A plain layer has its window only. */
export function bytesPerToken({ csa, hca }: KvGeometry, { main, index }: RowBytes): KindBytes {
  const ofCsa = (csa * (main + index)) / CSA_RATIO;
  const ofHca = (hca * main) / HCA_RATIO;
  return { csa: ofCsa, hca: ofHca, total: ofCsa + ofHca };
}

/** Windows of all layers and the carry of the CSA compressors: what continues a sequence at a multiple of 128. */
export function pointBytes(geometry: KvGeometry, { main }: RowBytes): number {
  const { plain, csa, hca, window, headDim, indexDim } = geometry;
  // A query writes its own row: one fewer than the window reaches.
  return (plain + csa + hca) * (window - 1) * main + csa * (headDim + indexDim) * CARRY_BYTES_PER_DIM;
}

export interface DiskBytes {
  /** Rows, as the formula counts them. */
  readonly segments: number;
  readonly points: number;
  readonly numSegments: number;
  readonly numPoints: number;
  /** Header pages, and what fills the last page of each record. */
  readonly padding: number;
  readonly total: number;
}

/** What the records of one prompt take: segments of up to 4,096 tokens, a point every 4,096 and one at its end. */
export function diskBytes(geometry: KvGeometry, tokens: number, rows: RowBytes = OUR_ROWS): DiskBytes {
  const stored = Math.floor(Math.max(0, tokens - 1) / BLOCK_TOKENS) * BLOCK_TOKENS;
  const perToken = bytesPerToken(geometry, rows).total;
  const ofPoint = pointBytes(geometry, rows);
  const numSegments = Math.ceil(stored / SEGMENT_TOKENS_MAX);
  const numPoints = Math.ceil(stored / POINT_TOKENS);
  const last = stored - Math.max(0, numSegments - 1) * SEGMENT_TOKENS_MAX;
  const wholeSegments = Math.max(0, numSegments - 1) * recordBytes(perToken * SEGMENT_TOKENS_MAX);
  const total = wholeSegments + (stored === 0 ? 0 : recordBytes(perToken * last)) + numPoints * recordBytes(ofPoint);
  const segments = perToken * stored;
  const points = ofPoint * numPoints;
  return { segments, points, numSegments, numPoints, padding: total - segments - points, total };
}

/** A page of header in front, the last page filled up. */
export function recordBytes(payloadBytes: number): number {
  return PAGE_BYTES + Math.ceil(payloadBytes / PAGE_BYTES) * PAGE_BYTES;
}

export interface Machine {
  readonly ramBytes: number;
  readonly ssdBytes: number;
  /** Per second. */
  readonly diskBandwidth: number;
  readonly memoryBandwidth: number;
}

/** Read from disk to where attention uses it: its rows and one point. The disk and the copies overlap. */
export function restoreSeconds(bytes: number, { diskBandwidth, memoryBandwidth }: Machine): number {
  return Math.max(bytes / diskBandwidth, (bytes * MEMORY_PASSES) / memoryBandwidth);
}

/**
 * The least that computing `tokens` takes: every step of 512 rows reads all weights, those that RAM does not hold from disk.
 * Arithmetic comes on top.
 */
export function computeSecondsMin({ weightBytes }: KvGeometry, tokens: number, machine: Machine): number {
  const fromMemory = Math.min(weightBytes, machine.ramBytes);
  const step = fromMemory / machine.memoryBandwidth + (weightBytes - fromMemory) / machine.diskBandwidth;
  return Math.ceil(tokens / STEP_TOKENS) * step;
}

export interface Capacity {
  readonly perToken: KindBytes;
  readonly pointBytes: number;
  /** Of one prompt of `context` tokens. */
  readonly disk: DiskBytes;
  /** Rows of 1,000,000 tokens. */
  readonly millionBytes: number;
  readonly publishedMillionBytes: number;
  /** In prompts of `context` tokens. */
  readonly ssdTokens: number;
  /** Beside the weights. */
  readonly ramTokens: number;
  readonly restoreBytes: number;
  readonly restoreSeconds: number;
  readonly computeSecondsMin: number;
}

export function capacityOf(
  geometry: KvGeometry,
  context: number,
  machine: Machine,
  rows: RowBytes = OUR_ROWS,
): Capacity {
  const perToken = bytesPerToken(geometry, rows);
  const disk = diskBytes(geometry, context, rows);
  const ofPoint = pointBytes(geometry, rows);
  const restoreBytes = disk.segments + (disk.numPoints > 0 ? ofPoint : 0);
  return {
    perToken,
    pointBytes: ofPoint,
    disk,
    millionBytes: perToken.total * 1e6,
    publishedMillionBytes: bytesPerToken(geometry, PUBLISHED_ROWS).total * 1e6,
    ssdTokens: disk.total === 0 ? 0 : Math.floor((machine.ssdBytes / disk.total) * context),
    // Only plain layers: rows that stay are none, and there is nothing to hold.
    ramTokens:
      perToken.total === 0 ? 0 : Math.floor(Math.max(0, machine.ramBytes - geometry.weightBytes) / perToken.total),
    restoreBytes,
    restoreSeconds: restoreSeconds(restoreBytes, machine),
    computeSecondsMin: computeSecondsMin(geometry, context, machine),
  };
}
