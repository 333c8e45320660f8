// The engine with its prompt cache and a disk, all in one process and one step at a time: NanduEngine over FakeRunner, DiskTier
// over FakeStore, both over one FakeKvMemory. Time stands still unless a test moves it, except for the deadlines of restores.

import { Failure } from '../../src/base/failures.js';
import { NanduEngine } from '../../src/engine/engine.js';
import type { EngineEvent } from '../../src/engine/types.js';
import type { Placement } from '../../src/kv/cache.js';
import { ChainHasher } from '../../src/kv/chain-hash.js';
import { DiskTier } from '../../src/kv/disk-tier.js';
import type { PointMode } from '../../src/kv/points.js';
import type { CacheEvent, CacheUse, PurgeSelector } from '../../src/kv/types.js';
import { FakeKvMemory } from './fake-kv-memory.js';
import { FakeRunner } from './fake-runner.js';
import { FakeStore, type FakeStoreOptions } from './fake-store.js';
import { request, tokensOf } from './requests.js';

export interface CachedEngineOptions {
  readonly numSlots?: number;
  /** In blocks' bytes; a point counts a sixteenth of a block. Default 100. */
  readonly keptBlocks?: number;
  readonly mode?: PointMode;
  readonly replayTokens?: number;
  readonly maxRunning?: number;
  readonly maxWaiting?: number;
  readonly poisonToken?: number;
  /** null: no disk; a FakeStore: that one. */
  readonly disk?: FakeStoreOptions | FakeStore | null;
  /** false: only by attach(). */
  readonly isAttached?: boolean;
  /** Requests wait for what is found on the disk, until `cache.stopWaiting()`. */
  readonly isWorthWaiting?: boolean;
  /** false: what the store has found is heard in the first round. */
  readonly isRecovered?: boolean;
  /** The model's, in its identity. */
  readonly weights?: number;
  readonly writeBudgetBytes?: number;
  /** What an earlier process remembered. */
  readonly pins?: ReadonlyMap<string, number>;
  /** Payload of a block on the disk; default 1000. */
  readonly blockBytes?: number;
}

export type Asked = ReturnType<typeof request>;

const POINT_BYTES = 4000;
/** More rounds than any test needs. */
const MAX_ROUNDS = 20_000;

export class CachedEngine {
  readonly memory = new FakeKvMemory();
  readonly runner: FakeRunner;
  readonly engine: NanduEngine;
  readonly store: FakeStore | null;
  readonly disk: DiskTier | null;
  /** As told to the log; the newest last. */
  readonly problems: string[] = [];
  /** As remembered last. */
  savedPins: ReadonlyMap<string, number> = new Map();
  readonly #options: CachedEngineOptions;
  /** Both clocks, ms. */
  nowMs = 1_000_000;

  constructor(options: CachedEngineOptions = {}) {
    this.#options = options;
    const { numSlots = 64, keptBlocks = 100, mode = 'periodic', replayTokens = 256, poisonToken } = options;
    const {
      maxRunning = 4,
      maxWaiting = 100,
      disk = {},
      isAttached = true,
      isRecovered = true,
      blockBytes = 1000,
    } = options;
    this.runner = new FakeRunner({
      kvBlocks: numSlots,
      maxSequences: maxRunning,
      stepMs: null,
      memory: this.memory,
      ...(poisonToken === undefined ? {} : { poisonToken }),
    });
    const keptBytesMax = keptBlocks * this.runner.stats().kvBlockBytes;
    const hasher = new ChainHasher(new Uint8Array(32).fill(255), new Uint8Array(32), 'tenant');
    this.engine = new NanduEngine(this.runner, {
      contextTokens: 8192,
      eosToken: null,
      maxRunning,
      maxWaiting,
      cache: { numSlots, keptBytesMax, mode, replayTokens, hasher },
      now: () => this.nowMs,
      wallNow: () => this.nowMs,
    });
    if (disk === null) {
      this.store = null;
      this.disk = null;
      return;
    }
    const fixed = { blockBytes, pointBytes: POINT_BYTES, delayMs: null, now: () => this.nowMs };
    this.store = disk instanceof FakeStore ? disk : new FakeStore({ ...disk, ...fixed, memory: this.memory });
    if (disk instanceof FakeStore) disk.useMemory(this.memory);
    this.disk = new DiskTier({
      store: this.store,
      ram: this.cache.ram,
      maxBytes: this.store.stats().usedBytes,
      blockPayloadBytes: blockBytes,
      pointPayloadBytes: POINT_BYTES,
      writeBudgetBytes: options.writeBudgetBytes ?? 0,
      pins: options.pins ?? new Map(),
      onRoom: () => this.cache.roomMade(),
      isModelUnchanged: () => true,
      savePins: async (pins) => {
        this.savedPins = pins;
      },
      now: () => this.nowMs,
      wallNow: () => this.nowMs,
      onEvent: (event) => this.cache.events.add(event),
      onProblem: (problem) => this.problems.push(problem),
    });
    this.cache.expectDisk(options.isWorthWaiting ?? false);
    if (!(disk instanceof FakeStore)) this.store.reportRecovered();
    if (isRecovered) this.store.onWake();
    if (isAttached) this.attach();
  }

  get cache() {
    return this.engine.kvCache;
  }

  /** The weights are known: requests find the disk. */
  attach(): void {
    const identity = new Uint8Array(32).fill(this.#options.weights ?? 1);
    const { disk, store } = this;
    if (disk && store) this.cache.attachDisk(disk, new ChainHasher(identity, store.secret, 'tenant'));
  }

  /** A request that is not waited for. */
  start(prompt: readonly number[], changes: Parameters<typeof request>[0] = {}): Asked {
    const asked = request({ prompt, ...changes, stop: { maxTokens: 4, ...changes?.stop } });
    this.engine.start(asked.request);
    return asked;
  }

  /** The request alone, to its end and until nothing is under way any more. */
  async ask(prompt: readonly number[], changes: Parameters<typeof request>[0] = {}): Promise<Asked> {
    const asked = this.start(prompt, changes);
    await this.finish([asked]);
    await this.settle();
    return asked;
  }

  /** A step of the model, a turn of the engine, whatever the disk has to do, and what follows from these. */
  async round(): Promise<void> {
    this.runner.step();
    this.runner.onWake();
    this.store?.settle();
    await tick();
    await tick();
    this.check();
  }

  async until(holds: () => boolean): Promise<void> {
    for (let round = 0; !holds(); round++) {
      if (round > MAX_ROUNDS) throw new Error('this never comes to be');
      await this.round();
    }
  }

  finish(asked: readonly Asked[]): Promise<void> {
    return this.until(() => asked.every(isOver));
  }

  /** A purge, with rounds of work until it is done; undefined: it was refused. */
  async purge(selector: Partial<PurgeSelector> = {}): Promise<{ blocks: number; bytes: number } | undefined> {
    const all = { scope: null, prefixId: null, unusedSinceMs: null, dryRun: false, ...selector };
    let isDone = false;
    const done = this.cache.purge(all).finally(() => {
      isDone = true;
    });
    const outcome = done.catch((error) => {
      if (!(error instanceof Failure) || error.reason !== 'CACHE_UNAVAILABLE') throw error;
      return undefined;
    });
    for (let round = 0; !isDone && round < MAX_ROUNDS; round++) await this.round();
    return outcome;
  }

  /** Nothing runs, and nothing waits for the disk. */
  async settle(): Promise<void> {
    await this.until(() => this.runner.stats().sequences === 0 && (this.store?.stats().ioQueued ?? 0) === 0);
    for (let more = 0; more < 3; more++) await this.round();
  }

  check(): void {
    this.cache.checkIntegrity();
    this.disk?.index.checkIntegrity();
    // Every point in RAM is known on this side, or on its way to it in a report.
    for (const handle of this.cache.ram.pointHandles()) this.memory.point(handle);
  }

  /** Nothing is held: no slot, no point, and no point that only native knows of, no record that hangs on nothing. */
  checkIdle(): void {
    const { heldBlocks, heldPoints } = this.cache.ram.stats;
    const known = this.cache.ram.pointHandles().length;
    const orphans = this.disk?.index.dropOrphans().length ?? 0;
    const found = { heldBlocks, heldPoints, orphans, leaked: this.memory.numPoints - known };
    if (Object.values(found).some((count) => count > 0)) throw new Error(`at idle: ${JSON.stringify(found)}`);
  }

  /** Everything above the store begins anew. */
  restarted(how: 'close' | 'crash', changes: CachedEngineOptions = {}): CachedEngine {
    const { store } = this;
    if (!store) throw new Error('there is no disk to start from');
    return new CachedEngine({ ...this.#options, disk: store.reopened(how), pins: this.savedPins, ...changes });
  }

  /** Places of all sequences so far, in order of admission. */
  get placements(): Placement[] {
    return this.runner.plans.flatMap(({ definitions }) => definitions.map(({ placement }) => placement));
  }

  /** Changes from now on; `sequence` is the number of the newest event that was told. */
  watch(onEvents: (events: readonly CacheEvent[]) => void): { sequence: () => number } {
    let newest = -1;
    this.cache.watch(0, (first, events) => {
      if (newest >= 0) {
        if (first !== newest + 1) throw new Error(`event ${newest} is followed by ${first}`);
        onEvents(events);
      }
      newest = first + events.length - 1;
    });
    return { sequence: () => newest };
  }
}

/** Blocks by letter, equal letters being equal blocks, and then `tail` tokens more. */
export function prompt(letters: string, tail = 1): number[] {
  const blocks = [...letters].flatMap((letter) =>
    Array.from({ length: 128 }, (_, index) => letter.charCodeAt(0) * 1000 + index),
  );
  return [...blocks, ...Array.from({ length: tail }, (_, index) => index + 1)];
}

export function isOver({ events }: Asked): boolean {
  const last = events.at(-1)?.t;
  return last === 'finished' || last === 'failed';
}

export function useOf({ events }: Asked): CacheUse {
  const last = events.at(-1) as Extract<EngineEvent, { t: 'finished' }>;
  if (last?.t !== 'finished') throw new Error(`it ended with ${JSON.stringify(last)}`);
  return last.use;
}

/** Hit tokens by tier: live, memory, disk; and why not more. */
export function hitsOf(asked: Asked): [number, number, number, string] {
  const { hitLiveTokens, hitMemoryTokens, hitDiskTokens, miss } = useOf(asked);
  return [hitLiveTokens, hitMemoryTokens, hitDiskTokens, miss.reason];
}

export function answerOf({ events }: Asked, choice = 0): number[] {
  return tokensOf(events, choice);
}

export function tick(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
