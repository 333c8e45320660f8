// The serving process: the listener opens at once, the model loads behind it, a signal drains, and the exit code says how it
// went.
//
//   listening ──▶ loading ──▶ serving ──SIGTERM, SIGINT──▶ draining ──▶ exit 0
//                    └──▶ exit 66: the model file          └──second signal──▶ exit 130, 143

import { lstatSync, readFileSync, statSync, unlinkSync } from 'node:fs';
import { connect } from 'node:net';
import { cpus } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadAddon, type ModelDescription } from '../addon/load.js';
import type { ServerFacts } from '../api/admin.js';
import { ApiServer } from '../api/server.js';
import { newInstanceId } from '../base/ids.js';
import { type Log, openLog } from '../base/log.js';
import type { PriceList } from '../base/prices.js';
import { within } from '../base/within.js';
import { type Config, socketPathOf } from '../config.js';
import { type Signal, UnavailableError } from './format.js';
import { modelPath } from './model.js';
import type { StopSignals } from './serve.js';
import { modelNameOf, type OpenedModel, openServedModel } from './served-model.js';

/** Above the 10 s that the store gives what is queued when it is closed. */
const CLOSE_PATIENCE_MS = 15_000;
/** What requests may call the embedded model. */
const DEFAULT_MODEL_NAME = 'default';

interface Build {
  readonly version: string;
  readonly revision: string;
}

/** Serves until a signal has drained it, and may leave a load behind that goes on reading; rejects with why it could not start. */
export async function serveUntilStopped(config: Config, prices: PriceList | null, signals: StopSignals): Promise<void> {
  const build = readBuild();
  const instanceId = newInstanceId();
  const { log, flush } = await openLog({
    level: config.logLevel,
    format: config.logFormat,
    fields: { service: 'nandu', version: build.version, instance: instanceId },
  });
  try {
    await new ServeProcess(config, prices, log, build, instanceId).run(signals);
  } finally {
    await flush();
  }
}

class ServeProcess {
  readonly #server: ApiServer;
  #description: ModelDescription | null = null;
  #opened: OpenedModel | null = null;
  #onStop: () => void = () => {};
  readonly #stopped = new Promise<void>((resolve) => {
    this.#onStop = resolve;
  });
  #isStopping = false;

  constructor(
    private readonly config: Config,
    prices: PriceList | null,
    private readonly log: Log,
    private readonly build: Build,
    private readonly instanceId: string,
  ) {
    this.#server = new ApiServer({
      modelName: config.model === null ? DEFAULT_MODEL_NAME : modelNameOf(config.model),
      settings: config,
      prices,
      facts: () => this.#facts(),
      log,
    });
  }

  /** Resolves after a drain; rejects with why the server could not start. */
  async run(signals: StopSignals): Promise<void> {
    signals.onStop((signal) => this.#stop(signal));
    try {
      if (this.#isStopping) return; // told before there was anything to drain
      await this.#listen();
      // A signal while loading does not wait for the load.
      await Promise.race([this.#load(), this.#stopped]);
      await this.#stopped;
      await this.#server.drain(this.config.drainTimeout);
      this.log.info('drained');
    } finally {
      await this.#server.close();
      // A device that hangs keeps the store's threads; nobody waits for it longer than the store itself would.
      if (this.#opened) await within(CLOSE_PATIENCE_MS, this.#opened.close(), undefined);
    }
  }

  async #listen(): Promise<void> {
    const { listen } = this.config;
    const path = socketPathOf(listen);
    try {
      if (path !== null) await clearSocket(path);
      const port = await this.#server.listen(listen);
      this.log.info({ listen, port }, 'listening');
    } catch (error) {
      const { message } = error as Error;
      const why = /EADDRINUSE/.test(message)
        ? 'is in use by another process'
        : `cannot be had: ${/listen (E[^\]]+)/.exec(message)?.[1] ?? message}`;
      throw new UnavailableError(`${listen} ${why}; choose another address with --listen`);
    }
  }

  async #load(): Promise<void> {
    const beganMs = performance.now();
    const path = modelPath(this.config.model ?? undefined);
    const buildId = `${this.build.version} ${this.build.revision}`;
    this.#opened = await openServedModel(loadAddon(), path, this.config, buildId, {
      log: this.log,
      onProgress: (fraction) => this.#server.setLoading(fraction),
      onDiskHealth: (isWell) => this.#server.setDiskHealth(isWell),
    });
    const { model, description } = this.#opened;
    this.#description = description;
    this.#server.setModel({ ...model, name: this.#server.slot.name });
    const { target, threads, numerics, cpu } = description;
    this.log.info(
      {
        ...{ model: this.#server.slot.name, path, context: model.contextLength, target, threads, numerics, cpu },
        load_ms: Math.round(performance.now() - beganMs),
      },
      'serving',
    );
  }

  #stop(signal: Signal): void {
    this.#isStopping = true;
    this.log.info({ signal, drain_timeout_ms: this.config.drainTimeout }, 'draining');
    this.#onStop();
  }

  #facts(): ServerFacts {
    const description = this.#description;
    return {
      ...this.build,
      instanceId: this.instanceId,
      cpuModel: description?.cpu ?? cpus()[0]?.model ?? 'unknown',
      computeThreads: description?.threads ?? 0,
      cpuFeatures: description ? [description.target] : [],
      ioBackend: this.#opened?.disk?.backend ?? '',
      memoryLimitBytes: this.config.memoryLimit,
      settings: this.config.shown,
    };
  }
}

/**
 * Makes way for a socket: one that a killed server left behind, where nobody listens, is removed. Rejects with why there cannot
 * be a socket, where the system itself would say something else. Before the bind: gRPC does not bind the same address twice.
 */
async function clearSocket(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (!there) {
    const folder = dirname(path);
    if (!statSync(folder, { throwIfNoEntry: false })) throw new Error(`there is no folder ${folder}`);
    return;
  }
  if (!there.isSocket()) throw new Error('something else than a socket is there');
  if ((await connectionProblem(path)) !== 'ECONNREFUSED') return; // somebody listens, and the bind says so
  // Another server may have done the same, and have its own there by now.
  if (lstatSync(path, { throwIfNoEntry: false })?.ino === there.ino) unlinkSync(path);
}

/** Code of the error that a connection ends with; '' for none. */
function connectionProblem(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve('');
    });
    socket.once('error', ({ code = '' }: NodeJS.ErrnoException) => resolve(code));
  });
}

const root = fileURLToPath(new URL('../..', import.meta.url));

function readBuild(): Build {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  return { version, revision: readRevision() };
}

/** The commit that a clone stands on; '' where there is no clone. */
function readRevision(): string {
  try {
    const head = readFileSync(join(root, '.git/HEAD'), 'utf8').trim();
    if (!head.startsWith('ref: ')) return head.slice(0, 12);
    return readFileSync(join(root, '.git', head.slice(5)), 'utf8')
      .trim()
      .slice(0, 12);
  } catch {
    return '';
  }
}
