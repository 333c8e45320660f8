// Wires the prompt cache: how much of RAM it may keep, and the disk behind it. The disk opens behind the model and answers as
// soon as the weights' digest is known; until then requests hit what is in RAM.

import { createHash, randomBytes } from 'node:crypto';
import { NativeKvStore } from '../addon/kv-store.js';
import type { ModelDescription, NativeAddon, OpenStoreOptions } from '../addon/load.js';
import { loadAddon, nativeErrorCode } from '../addon/load.js';
import type { NativeRunner } from '../addon/runner.js';
import { ConfigurationError } from '../base/configuration-error.js';
import type { Log } from '../base/log.js';
import { within } from '../base/within.js';
import type { Config } from '../config.js';
import type { CacheConfig } from '../engine/engine.js';
import type { KvCache } from '../kv/cache.js';
import { ChainHasher, identityOf } from '../kv/chain-hash.js';
import { DiskTier } from '../kv/disk-tier.js';
import type { PointMode } from '../kv/points.js';
import { storedBytes } from '../kv/store.js';
import { StorageError, UnavailableError } from './format.js';
import { quotaFor, watchFiles } from './kv-directory.js';
import { PinFile } from './pins.js';
import type { WeightsFiles } from './weights-digest.js';

/** Counted up when an arithmetic change alters a bit of any row (docs/arithmetic.md). */
const NUMERIC_VERSION = 1;
/** Counted up when payloads on disk are laid out otherwise (docs/formats.md). */
const PAYLOAD_VERSION = 1;
/** Counted up when the same messages make other tokens. */
const CHAT_ENCODING_VERSION = 1;
/** Until there are keys that tell tenants apart. */
const DEFAULT_TENANT = 'default';
/** Of the file system, never taken by the cache. */
const FREE_FLOOR_BYTES = 256 * 2 ** 20;
/** So long a request waits for what an earlier server left on the disk: about what a terabyte takes to be found. */
const RECOVERY_PATIENCE_MS = 3000;
/** Tokens from before a boundary that the first compressed row behind it is made of. */
const CARRY_TOKENS = 4;
/** Of the KV budget, when --kv-memory does not say. */
const KEPT_SHARE = 0.25;

/** Budget of KV rows and points in RAM, and the part of it that stays when no request uses it. */
export function cacheConfig(description: ModelDescription, keptBytes: number | null, mode: PointMode): CacheConfig {
  const { kv_blocks: blocks, geometry } = description;
  // Blocks of a model without compressed layers are empty; counted as a byte, as native does, they still have a number.
  const blockBytes = Math.max(1, description.kv_block_bytes);
  const budget = blocks * blockBytes;
  // Points lie beside the slots, so slots leave room for as many of them as may be kept.
  const keptBytesMax = Math.min(keptBytes ?? Math.floor(budget * KEPT_SHARE), budget / 2);
  const slotBytes = budget - keptBytesMax;
  return {
    numSlots: Math.max(1, Math.floor(slotBytes / blockBytes)),
    keptBytesMax,
    mode,
    replayTokens: replayTokensOf(geometry.window ?? 1, geometry.layers),
    hasher: new ChainHasher(randomBytes(32), randomBytes(32), DEFAULT_TENANT),
  };
}

/** What has to be computed again to have all windows: each layer's stands on the one below. */
function replayTokensOf(window: number, layers: number): number {
  const carry = window > CARRY_TOKENS ? 0 : CARRY_TOKENS; // a longer window has what the compressors carry
  return (window - 1) * layers + carry;
}

export interface DiskListener {
  readonly log: Log;
  /** Once the disk is open, and whenever it fails or is well again. */
  readonly onDiskHealth: (isWell: boolean) => void;
}

export interface DiskWiring {
  readonly addon: NativeAddon;
  readonly runner: NativeRunner;
  readonly description: ModelDescription;
  /** Opened before the engine opened them; null: they could not be. */
  readonly weights: WeightsFiles | null;
  readonly config: Config;
  readonly cache: KvCache;
  readonly listener: DiskListener;
}

export interface OpenDisk {
  readonly backend: string;
  close(): Promise<void>;
}

/**
 * Opens the directory that the configuration names; null: it names none. Rejects with the error whose exit code tells why it
 * cannot serve. The digest is computed behind its back.
 */
export async function openDisk(wiring: DiskWiring): Promise<OpenDisk | null> {
  const { addon, runner, description, config, cache, listener } = wiring;
  const { log } = listener;
  const { kvDir: directory } = config;
  if (directory === '') return null;
  const blockPayloadBytes = description.kv_block_payload_bytes;
  const pointPayloadBytes = description.kv_point_bytes;
  const options: OpenStoreOptions = {
    directory,
    maxBytes: quotaFor(directory, config.kvMaxBytes),
    // Others have filled the disk since: no reason to throw away what a start that asks for nothing would find.
    keepsRegions: config.kvMaxBytes === 0,
    largestRecord: Math.max(storedBytes(pointPayloadBytes, 0), storedBytes(blockPayloadBytes, 1)),
    freeFloor: FREE_FLOOR_BYTES,
    readOnly: false,
    io: config.io,
    fault: config.kvFault ?? '',
  };
  const pins = new PinFile(directory);
  const remembered = await pins.read(Date.now());
  const isModelKnown = (await wiring.weights?.isRemembered(directory)) === true;
  // From here to the end nothing may be waited for: the store tells what it finds, and only the tier listens.
  let store: NativeKvStore;
  try {
    store = await openStore(addon, options, runner);
  } catch (error) {
    // A disk that is nearly full is no reason to refuse a start that asked for nothing.
    if (!(error instanceof ConfigurationError) || config.kvMaxBytes > 0) throw error;
    log.warn({ kv_dir: directory, reason: error.message }, 'the prompt cache has no disk');
    return null;
  }
  const { backend, maxBytes } = store;
  const disk = new DiskTier({
    store,
    ram: cache.ram,
    maxBytes,
    blockPayloadBytes,
    pointPayloadBytes,
    writeBudgetBytes: config.kvWriteBudget,
    pins: remembered,
    savePins: (all) => pins.save(all),
    isModelUnchanged: () => wiring.weights?.isUnchanged() !== false,
    onRoom: () => cache.roomMade(),
    now: () => performance.now(),
    wallNow: () => Date.now(),
    onEvent: (event) => cache.events.add(event),
    onProblem: (problem) => {
      listener.onDiskHealth(problem === '');
      if (problem === '') log.info({ kv_dir: directory }, 'the disk of the prompt cache is well again');
      else log.warn({ kv_dir: directory, problem }, 'the disk of the prompt cache has a problem');
    },
  });
  cache.expectDisk(isModelKnown);
  log.info(
    { kv_dir: directory, kv_max_bytes: maxBytes, io: backend, ...(store.remark !== '' && { io_remark: store.remark }) },
    'the prompt cache is open',
  );
  listener.onDiskHealth(true);
  const watch = watchFiles(directory, (isThere) => disk.directoryIs(isThere));
  const inUse = Promise.all([attach(store, disk, wiring), disk.recovered]);
  void within(RECOVERY_PATIENCE_MS, inUse, undefined).then(() => cache.stopWaiting());
  return {
    backend,
    close: () => {
      watch.stop();
      return disk.close();
    },
  };
}

/** A directory by itself, without a model: what `nandu cache` works on. */
export async function openKvDirectory(directory: string, isReadOnly: boolean): Promise<NativeKvStore> {
  const look = { directory, keepsRegions: false, largestRecord: 0, freeFloor: 0, io: 'auto', fault: '' } as const;
  const reader = await openStore(loadAddon(), { ...look, maxBytes: 0, readOnly: true }, null);
  if (isReadOnly) return reader;
  // It is there, and it is ours; now for writing, and without a quota that would cut it.
  await reader.close();
  return openStore(loadAddon(), { ...look, maxBytes: Number.MAX_SAFE_INTEGER, readOnly: false }, null);
}

async function openStore(
  addon: NativeAddon,
  options: OpenStoreOptions,
  runner: NativeRunner | null,
): Promise<NativeKvStore> {
  try {
    return await NativeKvStore.open(addon, options, runner?.handle ?? null);
  } catch (error) {
    const { message } = error as Error;
    switch (nativeErrorCode(error)) {
      case 'BUSY':
        throw new UnavailableError(`${message}; choose another one with --kv-dir`);
      case 'IO':
        // Without a model it is a directory that is looked at, and none is no directory.
        throw new StorageError(`${message}; choose another one with --kv-dir${runner ? ', or none' : ''}`);
      case 'INVALID_ARGUMENT':
        throw new ConfigurationError(message, 'environment');
      default:
        throw error;
    }
  }
}

async function attach(store: NativeKvStore, disk: DiskTier, wiring: DiskWiring): Promise<void> {
  const { description, weights: files, config, cache } = wiring;
  const { log, onDiskHealth } = wiring.listener;
  const beganMs = performance.now();
  try {
    if (!files?.isWhereItWas()) throw new Error('the model file was replaced while it was loaded');
    const weights = await files.digest(store.directory);
    const identity = identityOf({
      weights,
      tokenizer: digestOf(description.tokenizer),
      chatEncoding: String(CHAT_ENCODING_VERSION),
      numericMode: config.numerics,
      numericVersion: NUMERIC_VERSION,
      geometry: digestOf({ ...description.geometry, context: 0 }),
      layout: `${PAYLOAD_VERSION} ${description.kv_block_payload_bytes} ${description.kv_point_bytes}`,
    });
    if (!(identity instanceof Uint8Array)) throw new Error(`unknown: ${identity.unknown.join(', ')}`);
    cache.attachDisk(disk, new ChainHasher(identity, store.secret, DEFAULT_TENANT));
    log.info({ digest_ms: Math.round(performance.now() - beganMs) }, 'the prompt cache uses its disk');
  } catch (error) {
    log.error({ err: error }, 'the prompt cache goes without its disk: the model cannot be identified');
    cache.giveUpDisk('Prompt cache: the disk is not used, because the model file could not be identified.');
    onDiskHealth(false);
  }
}

function digestOf(value: object): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex');
}
