// How much may be written to the disk on one day (UTC), for the sake of its life. Chains are admitted by the hash of their
// first block, so that one is stored whole or not at all (those that begin alike share their fate), and with a probability
// that is set each minute to make the budget last the day. Time comes from the caller.

import type { HashKey } from './store.js';

const DAY_MS = 24 * 3600 * 1000;
const MINUTE_MS = 60 * 1000;
/** Weight of the last minute in what is expected of the next: an hour of quiet pays for a burst of some minutes. */
const MINUTE_WEIGHT = 1 / 60;

export class WriteBudget {
  readonly #bytesPerDay: number;
  readonly #reserveBytes: number;
  #day = Number.NaN;
  #minute = Number.NaN;
  #spentBytes = 0;
  #offeredBytes = 0;
  #otherBytes = 0;
  #offeredPerMinute = 0;
  #otherPerMinute = 0;
  #probability = 1;

  /**
   * @param bytesPerDay 0: no limit.
   * @param reserveBytes left for what reclaim may write again after the last admission: one region.
   */
  constructor(bytesPerDay: number, reserveBytes: number) {
    this.#bytesPerDay = bytesPerDay;
    this.#reserveBytes = reserveBytes;
  }

  /** Whether the new part of a chain, `bytes` in all, is written; `key` is the hash of its first block. Admitted is spent. */
  admits(key: HashKey, bytes: number, nowMs: number): boolean {
    this.#turn(nowMs);
    this.#offeredBytes += bytes;
    const fits = this.#spentBytes + bytes + this.#reserveBytes <= this.#bytesPerDay;
    if (this.#bytesPerDay > 0 && !(fits && fractionOf(key) < this.#probability)) return false;
    this.#spentBytes += bytes;
    return true;
  }

  /** Found after a start: what an earlier process wrote on this day counts. */
  recovered(bytes: number, writtenMs: number, nowMs: number): void {
    this.#turn(nowMs);
    if (Math.floor(writtenMs / DAY_MS) === this.#day) this.#spentBytes += bytes;
  }

  /** Written without having been asked: by reclaim. */
  spend(bytes: number, nowMs: number): void {
    this.#turn(nowMs);
    this.#spentBytes += bytes;
    this.#otherBytes += bytes;
  }

  /** Admitted, but never written. */
  refund(bytes: number): void {
    this.#spentBytes = Math.max(0, this.#spentBytes - bytes);
  }

  /** On the day of `nowMs`. */
  spentBytes(nowMs: number): number {
    this.#turn(nowMs);
    return this.#spentBytes;
  }

  get probability(): number {
    return this.#probability;
  }

  #turn(nowMs: number): void {
    const day = Math.floor(nowMs / DAY_MS);
    const minute = Math.floor(nowMs / MINUTE_MS);
    if (minute === this.#minute) return;
    // A clock that was set back does not give the day's budget a second time.
    if (day > this.#day) this.#spentBytes = 0;
    const passed = Math.min(Math.max(1, minute - this.#minute), DAY_MS / MINUTE_MS);
    if (!Number.isNaN(this.#minute)) {
      this.#offeredPerMinute = faded(this.#offeredPerMinute, this.#offeredBytes, passed);
      this.#otherPerMinute = faded(this.#otherPerMinute, this.#otherBytes, passed);
    }
    this.#offeredBytes = 0;
    this.#otherBytes = 0;
    this.#day = day;
    this.#minute = minute;
    const minutesLeft = Math.ceil(((day + 1) * DAY_MS - nowMs) / MINUTE_MS);
    const left = Math.max(0, this.#bytesPerDay - this.#reserveBytes - this.#spentBytes);
    const perMinute = Math.max(0, left / minutesLeft - this.#otherPerMinute);
    this.#probability = perMinute >= this.#offeredPerMinute ? 1 : perMinute / this.#offeredPerMinute;
  }
}

/** Mean per minute after `bytes` in one of the last `minutes` minutes and nothing in the others. */
function faded(mean: number, bytes: number, minutes: number): number {
  return (mean + MINUTE_WEIGHT * (bytes - mean)) * (1 - MINUTE_WEIGHT) ** (minutes - 1);
}

/** In [0, 1), the same for the same key. */
function fractionOf(key: HashKey): number {
  return Buffer.from(key.slice(0, 4), 'latin1').readUInt32LE() / 2 ** 32;
}
