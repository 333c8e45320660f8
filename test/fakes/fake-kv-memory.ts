// Native's KV memory without native: what slots and points hold, as far as tests must tell right rows from wrong ones. A
// row is the hash of every token up to it, so that one row of another prompt cannot pass for the right one. FakeRunner
// computes in it, FakeStore copies out of it and into it; whoever uses what is not there gets an error.

import { BLOCK_TOKENS } from '../../src/kv/block.js';
import type { Payload } from '../../src/kv/store.js';

/** State at a position; what lies in the block that is open there comes with it. */
export interface FakePoint {
  readonly position: number;
  /** Row before the position. */
  readonly hash: number;
  readonly openRows: Uint32Array;
}

/** A payload as the disk keeps it. */
export type FakePayload =
  | { readonly t: 'blocks'; readonly rows: readonly Uint32Array[] }
  | { readonly t: 'point'; readonly point: FakePoint };

export class FakeKvMemory {
  /** Whether a sequence that runs names this slot; set by the runner. */
  isNamed: (slot: number) => boolean = () => false;
  /** Points ever taken or restored. */
  numTaken = 0;
  readonly #slots = new Map<number, Uint32Array>();
  readonly #points = new Map<number, FakePoint>();

  /** Rows of a slot; 0: not written yet. */
  rowsOf(slot: number): Uint32Array {
    const rows = this.#slots.get(slot) ?? new Uint32Array(BLOCK_TOKENS);
    this.#slots.set(slot, rows);
    return rows;
  }

  addPoint(point: FakePoint): number {
    this.numTaken += 1;
    this.#points.set(this.numTaken, point);
    return this.numTaken;
  }

  point(handle: number): FakePoint {
    const point = this.#points.get(handle);
    if (!point) throw new Error(`point ${handle} was never taken, or is released`);
    return point;
  }

  releasePoint(handle: number): void {
    this.point(handle);
    this.#points.delete(handle);
  }

  /** Points that nobody has released yet. */
  get numPoints(): number {
    return this.#points.size;
  }

  copyOut(payload: Payload): FakePayload {
    if (payload.t === 'point') return { t: 'point', point: this.point(payload.point) };
    return { t: 'blocks', rows: payload.slots.map((slot) => this.rowsOf(slot).slice()) };
  }

  /** Slots and points must stay as they were while they are being written. */
  mustEqual(payload: Payload, copy: FakePayload): void {
    if (payload.t === 'point') {
      if (copy.t !== 'point' || this.point(payload.point) !== copy.point)
        throw new Error('a point changed while it was written');
      return;
    }
    const isSame = payload.slots.every((slot, block) =>
      this.rowsOf(slot).every((row, index) => copy.t === 'blocks' && row === copy.rows[block]?.[index]),
    );
    if (!isSame) throw new Error(`slots ${payload.slots} changed while they were written`);
  }

  copyBlocksIn(rows: readonly Uint32Array[], slots: readonly number[]): void {
    slots.forEach((slot, index) => {
      if (this.isNamed(slot)) throw new Error(`slot ${slot} is read into while a sequence uses it`);
      this.rowsOf(slot).set(rows[index] as Uint32Array);
    });
  }
}
