// The runs that the trace is for: the same requests through production code and through the reference, at shares of the
// trace's own size. Two sizes of things: `blocks` as the published simulations have it (every block of 512 tokens a
// record with a free point at its end), and `records` as V4-Flash makes them.

import { factsOf, TRACE_BLOCK_TOKENS, type TraceRequest } from './trace.js';
import { productionRun } from './trace-driver.js';
import { referenceRun, type TraceResult, type TraceSizes } from './trace-reference.js';

export const CAPACITIES = [0.02, 0.1, 0.25, 0.5] as const;
export const KINDS = ['blocks', 'records'] as const;
export type TraceKind = (typeof KINDS)[number];

const BYTES_PER_TOKEN = 3514;
const POINT_BYTES = 4_100_000;
const HEADER_BYTES = 4096;
const REGION_BYTES = 32 * 1024 * 1024;
const SEGMENT_TOKENS = 4096;

export interface TraceComparison {
  readonly kind: TraceKind;
  readonly capacity: number;
  readonly regions: number;
  readonly production: TraceResult;
  readonly reference: TraceResult;
  readonly difference: number;
}

export function compare(trace: readonly TraceRequest[], kind: TraceKind, capacity: number): TraceComparison {
  const rowBytes = factsOf(trace).distinctBlocks * TRACE_BLOCK_TOKENS * BYTES_PER_TOKEN;
  const segmentBlocks = SEGMENT_TOKENS / TRACE_BLOCK_TOKENS;
  const sizes: TraceSizes = {
    regionBytes: REGION_BYTES,
    regions: Math.round((capacity * rowBytes) / REGION_BYTES),
    bytesPerToken: BYTES_PER_TOKEN,
    ...(kind === 'records'
      ? { pointBytes: POINT_BYTES, headerBytes: HEADER_BYTES, segmentBlocks, pointEvery: segmentBlocks }
      : { pointBytes: 0, headerBytes: 0, segmentBlocks: 1, pointEvery: 1 }),
  };
  const production = productionRun(trace, sizes);
  const reference = referenceRun(trace, sizes);
  const difference = production.hitRate - reference.hitRate;
  return { kind, capacity, regions: sizes.regions, production, reference, difference };
}
