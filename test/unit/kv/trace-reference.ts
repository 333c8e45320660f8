// What the disk tier should do, written down a second time from the text (../shared/design/kv-store.md 2.4, 3.1, 3.3)
// and as plainly as possible: it shares no line with src/kv and counts in blocks of the trace, whose names say which
// prompts are equal. A region takes records until the next does not fit; the oldest is emptied when fewer than two are
// free; what was hit since it was written survives, its mark cleared, in regions of its own; the rest is gone.

import { TRACE_BLOCK_TOKENS, type TraceRequest } from './trace.js';

export interface TraceSizes {
  readonly regionBytes: number;
  readonly regions: number;
  readonly bytesPerToken: number;
  readonly pointBytes: number;
  readonly headerBytes: number;
  /** Rows of one record, in blocks of the trace. */
  readonly segmentBlocks: number;
  /** A point after every so many blocks of the trace, besides that at the end and that where another prompt parts. */
  readonly pointEvery: number;
}

export interface TraceResult {
  readonly hitRate: number;
  readonly writtenBytes: number;
  readonly rewrittenBytes: number;
  readonly reclaims: number;
}

interface Unit {
  readonly bytes: number;
  /** What it hangs on. */
  readonly parent: Unit | null;
  readonly names: readonly number[];
  readonly isPoint: boolean;
  wasHit: boolean;
  isGone: boolean;
}

interface Bin {
  units: Unit[];
  bytes: number;
}

export function referenceRun(trace: readonly TraceRequest[], sizes: TraceSizes): TraceResult {
  const rows = new Map<number, Unit>(); // by the name of each of its blocks
  const points = new Map<number, Unit>(); // by the name of the block at whose end it stands
  const full: Bin[] = [];
  const open: Record<'rows' | 'points' | 'again', Bin | null> = { rows: null, points: null, again: null };
  let free = sizes.regions;
  let written = 0;
  let rewritten = 0;
  let reclaims = 0;

  function put(unit: Unit, where: 'rows' | 'points' | 'again'): void {
    let bin = open[where];
    if (bin && bin.bytes + unit.bytes > sizes.regionBytes) {
      full.push(bin);
      bin = null;
    }
    if (!bin) {
      if (free === 0) throw new Error('no free region');
      free--;
      bin = { units: [], bytes: 0 };
    }
    bin.units.push(unit);
    bin.bytes += unit.bytes;
    open[where] = bin;
  }

  function isLost(unit: Unit): boolean {
    return unit.isGone || (unit.parent !== null && isLost(unit.parent));
  }

  function makeRoom(): void {
    while (free < 2 && full.length > 0) {
      const oldest = full.shift() as Bin;
      reclaims++;
      for (const unit of oldest.units) {
        if (unit.wasHit && !isLost(unit)) {
          unit.wasHit = false;
          rewritten += unit.bytes;
          put(unit, 'again');
          continue;
        }
        unit.isGone = true;
        for (const name of unit.names) {
          if (unit.isPoint && points.get(name) === unit) points.delete(name);
          if (!unit.isPoint && rows.get(name) === unit) rows.delete(name);
        }
      }
      free++;
    }
  }

  function write(unit: Unit): void {
    put(unit, unit.isPoint ? 'points' : 'rows');
    written += unit.bytes;
    for (const name of unit.names) (unit.isPoint ? points : rows).set(name, unit);
    makeRoom();
  }

  let hitTokens = 0;
  let promptTokens = 0;
  for (const { blocks, promptTokens: tokens } of trace) {
    promptTokens += tokens;
    // Rows that are there from the first block on, and the deepest point among them.
    let there = 0;
    while (there < blocks.length) {
      const unit = rows.get(blocks[there] as number);
      if (!unit || isLost(unit)) break;
      there++;
    }
    let hit = there;
    while (hit > 0 && !points.has(blocks[hit - 1] as number)) hit--;
    hitTokens += hit * TRACE_BLOCK_TOKENS;
    // What is used or would be written again is marked; the point only that is used.
    for (const name of blocks.slice(0, there)) (rows.get(name) as Unit).wasHit = true;
    if (hit > 0) (points.get(blocks[hit - 1] as number) as Unit).wasHit = true;

    for (let from = there; from < blocks.length; ) {
      const to = Math.min(blocks.length, (Math.floor(from / sizes.segmentBlocks) + 1) * sizes.segmentBlocks);
      const parent = from === 0 ? null : (rows.get(blocks[from - 1] as number) ?? null);
      if (from > 0 && parent === null) break; // its beginning was already thrown out: the disk is very small
      write({
        bytes: (to - from) * TRACE_BLOCK_TOKENS * sizes.bytesPerToken + sizes.headerBytes,
        parent,
        names: blocks.slice(from, to),
        isPoint: false,
        wasHit: false,
        isGone: false,
      });
      from = to;
    }
    for (let at = hit + 1; at <= blocks.length; at++) {
      const isWanted = at % sizes.pointEvery === 0 || at === blocks.length || at === there;
      const name = blocks[at - 1] as number;
      const parent = rows.get(name);
      if (!isWanted || points.has(name) || !parent) continue;
      const bytes = sizes.pointBytes + sizes.headerBytes;
      write({ bytes, parent, names: [name], isPoint: true, wasHit: false, isGone: false });
    }
  }
  return { hitRate: hitTokens / promptTokens, writtenBytes: written, rewrittenBytes: rewritten, reclaims };
}
