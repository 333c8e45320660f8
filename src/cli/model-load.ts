// A model on its way into memory: what the serve command begins before all else.

import type { NativeAddon, OpenOptions } from '../addon/load.js';
import { NativeRunner } from '../addon/runner.js';
import type { Config } from '../config.js';
import { UsageError } from './format.js';
import { WeightsFiles } from './weights-digest.js';

/** Working buffers of steps and samplers, outside the KV budget that --memory-limit leaves. */
const BUFFER_BYTES = 256 * 2 ** 20;

/** The load begins with the object, on native's own threads, and can't be called off. */
export class ModelLoad {
  readonly beganMs = performance.now();
  /** Gets fractions of the time that the load takes. */
  onProgress: (fraction: number) => void = () => {};
  readonly weights: WeightsFiles | null;
  readonly opening: ReturnType<typeof NativeRunner.open>;

  /** Throws UsageError for limits that leave nothing to load into. */
  constructor(
    readonly addon: NativeAddon,
    readonly path: string,
    config: Config,
  ) {
    const options = openOptions(path, config);
    this.weights = weightsOf(path);
    this.opening = NativeRunner.open(addon, options, (fraction) => this.onProgress(fraction));
    // Whoever waits for it is told; until then a failure is no unhandled one.
    this.opening.catch(() => {});
  }
}

function openOptions(model: string, config: Config): OpenOptions {
  const { numerics, threads, context, maxRunning: maxSequences, memoryLimit } = config;
  const kvBytes = memoryLimit === 0 ? 0 : memoryLimit - BUFFER_BYTES;
  if (memoryLimit !== 0 && kvBytes <= 0)
    throw new UsageError(`--memory-limit leaves nothing for KV rows: give more than ${BUFFER_BYTES} bytes`);
  return { model, numerics, threads, context, kvBytes, maxSequences, verify: false };
}

/** null: they are not there, and the engine says so better. */
function weightsOf(path: string): WeightsFiles | null {
  try {
    return WeightsFiles.open(path);
  } catch {
    return null;
  }
}
