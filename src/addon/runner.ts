// The Runner that computes: plans and reports as bytes to and from the addon.

import type { Plan } from '../engine/plan.js';
import type { Report } from '../engine/reports.js';
import type { Runner, RunnerStats } from '../engine/runner.js';
import { Stats } from './layout.js';
import type { EngineHandle, ModelDescription, NativeAddon, OpenOptions } from './load.js';
import { PlanEncoder } from './plan-bytes.js';
import { decodeReports, getUint64 } from './report-bytes.js';

/** Larger than any one report: a token with 20 alternatives is 200 bytes, a failure's message is one line. */
const DRAIN_BYTES = 256 * 1024;

export class NativeRunner implements Runner {
  onWake = (): void => {};
  readonly #addon: NativeAddon;
  readonly #handle: EngineHandle;
  readonly #encoder = new PlanEncoder();
  readonly #reports = new Uint8Array(DRAIN_BYTES);
  readonly #stats = new Uint8Array(Stats.size);
  #closed: Promise<void> | null = null;

  private constructor(addon: NativeAddon, handle: EngineHandle) {
    this.#addon = addon;
    this.#handle = handle;
  }

  /** Loads the model and starts native's threads. `progress` gets fractions of the time it takes. */
  static async open(
    addon: NativeAddon,
    options: OpenOptions,
    progress: (fraction: number) => void = () => {},
  ): Promise<{ runner: NativeRunner; description: ModelDescription }> {
    let wake = (): void => {};
    const handle = await addon.open(options, () => wake(), progress);
    const runner = new NativeRunner(addon, handle);
    wake = () => {
      if (runner.#closed) return;
      try {
        runner.onWake();
      } catch (error) {
        // Node only warns of what a native callback throws, and every request would hang from here on.
        setImmediate(() => {
          throw error;
        });
      }
    };
    return { runner, description: addon.describe(handle) };
  }

  submit(plan: Plan): void {
    this.#addon.submit(this.#handle, this.#encoder.encode(plan));
  }

  drain(): Report[] {
    const reports: Report[] = [];
    for (;;) {
      const bytes = this.#addon.drain(this.#handle, this.#reports);
      if (bytes === 0) return reports;
      reports.push(...decodeReports(this.#reports.subarray(0, bytes)));
    }
  }

  stats(): RunnerStats {
    this.#addon.stats(this.#handle, this.#stats);
    const view = new DataView(this.#stats.buffer);
    const read = (at: number): number => getUint64(view, at);
    return {
      plan: read(Stats.plan),
      steps: read(Stats.steps),
      prefillTokens: read(Stats.prefillTokens),
      decodeTokens: read(Stats.decodeTokens),
      prefillNs: read(Stats.prefillNs),
      sequences: read(Stats.sequences),
      kvBlocksUsed: read(Stats.kvBlocksUsed),
      kvBlocksLimit: read(Stats.kvBlocksLimit),
      kvBlockBytes: read(Stats.kvBlockBytes),
      privateBytes: read(Stats.privateBytes),
      pointBytes: read(Stats.pointBytes),
      paths: Array.from({ length: (Stats.size - Stats.paths) / 8 }, (_, index) => read(Stats.paths + index * 8)),
    };
  }

  releasePoint(point: number): void {
    if (!this.#closed) this.#addon.releasePoint(this.#handle, point);
  }

  /** For the KV store, which reads and writes the same memory. */
  get handle(): EngineHandle {
    return this.#handle;
  }

  close(): Promise<void> {
    this.#closed ??= this.#addon.close(this.#handle);
    return this.#closed;
  }
}
