// How fast the engine has been: tokens a second over the last ten seconds, and how long requests take. Takes the time
// from its caller; keeps a bounded number of samples.

import type { RunnerStats } from './runner.js';

interface Sample {
  readonly atMs: number;
  readonly prefillTokens: number;
  readonly decodeTokens: number;
  readonly prefillNs: number;
}

/** What GetLoad promises. */
const WINDOW_MS = 10_000;
const SAMPLE_EVERY_MS = 250;
/** Weight of the newest request in the mean time of service: the last ten or so count. */
const SERVICE_WEIGHT = 0.2;

export class Rates {
  #samples: Sample[] = [];
  #serviceMs: number | null = null;
  #prefillSpeed = 0;

  /** True when a sample is due; reading counters more often tells nothing. */
  isDue(nowMs: number): boolean {
    const newest = this.#samples.at(-1);
    return newest === undefined || nowMs - newest.atMs >= SAMPLE_EVERY_MS;
  }

  sample(nowMs: number, stats: RunnerStats): void {
    const { prefillTokens, decodeTokens, prefillNs } = stats;
    this.#samples.push({ atMs: nowMs, prefillTokens, decodeTokens, prefillNs });
    // One sample from before the window stays: rates are differences to it.
    while (this.#samples.length > 2 && nowMs - (this.#samples[1] as Sample).atMs >= WINDOW_MS) this.#samples.shift();
    const oldest = this.#samples[0] as Sample;
    // While nothing but decoding goes on, what was measured last stays the best guess.
    if (prefillNs > oldest.prefillNs) {
      this.#prefillSpeed = ((prefillTokens - oldest.prefillTokens) / (prefillNs - oldest.prefillNs)) * 1e9;
    }
  }

  /** A request ended that had run, from admission, for so long. */
  served(ms: number): void {
    this.#serviceMs = this.#serviceMs === null ? ms : this.#serviceMs + SERVICE_WEIGHT * (ms - this.#serviceMs);
  }

  /** Mean time from admission to end; null before the first end. */
  get serviceMs(): number | null {
    return this.#serviceMs;
  }

  /** Prompt tokens a second of computing them, whatever silence or decoding was before; 0: no prompt came yet. */
  get prefillSpeed(): number {
    return this.#prefillSpeed;
  }

  perSecond(): { readonly prefill: number; readonly decode: number } {
    const oldest = this.#samples[0];
    const newest = this.#samples.at(-1);
    if (!oldest || !newest || newest.atMs === oldest.atMs) return { prefill: 0, decode: 0 };
    // An oldest sample from before the window was followed by silence, or it would have been dropped.
    const seconds = Math.min(newest.atMs - oldest.atMs, WINDOW_MS) / 1000;
    return {
      prefill: (newest.prefillTokens - oldest.prefillTokens) / seconds,
      decode: (newest.decodeTokens - oldest.decodeTokens) / seconds,
    };
  }
}
