// The one file that loads the addon, and the types of its whole surface. Everything else in src/ receives it.

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import type { StoreStats } from '../kv/store.js';

/** How numbers are kept and attended to; the last is for tests. */
export type Numerics = 'reference' | 'f32' | 'reference-f32-attention';
export const NUMERICS: readonly Numerics[] = ['reference', 'f32', 'reference-f32-attention'];

export interface OpenOptions {
  /** Path of the GGUF file, of the first one if it is split. */
  readonly model: string;
  readonly numerics: Numerics;
  /** 0: the physical cores of the cpuset. */
  readonly threads: number;
  /** 0: the model's own. */
  readonly context: number;
  /** Budget of KV blocks; 0: half of the memory that is free. */
  readonly kvBytes: number;
  readonly maxSequences: number;
  /** No scale is NaN or infinite, as is known from before: the file, of up to 8 GiB, is not read for that again. */
  readonly isChecked: boolean;
}

interface KvFacts {
  readonly main_row_bytes: number;
  readonly index_row_bytes: number;
  readonly bytes_per_token: number;
  readonly csa_bytes_per_token: number;
  readonly hca_bytes_per_token: number;
  readonly block_bytes: number;
  /** Rings and carries of one sequence. */
  readonly sequence_bytes: number;
}

/** What a model file holds; names as native writes them. */
export interface ModelFacts {
  readonly name: string;
  readonly architecture: string;
  readonly path: string;
  readonly weight_bytes: number;
  readonly active_bytes_per_token: number;
  readonly geometry: Readonly<Record<string, number>> & {
    readonly layers: number;
    readonly vocab: number;
    readonly context: number;
  };
  readonly layers: { readonly plain: number; readonly csa: number; readonly hca: number };
  readonly types: readonly { readonly type: string; readonly tensors: number; readonly bytes: number }[];
  readonly kv: { readonly reference: KvFacts; readonly f32: KvFacts };
  readonly tokenizer: {
    readonly model: string;
    readonly pre: string;
    readonly bos_token_id?: number;
    readonly eos_token_id?: number;
    readonly padding_token_id?: number;
  };
}

/** What runs: the file's facts and the machine's. */
export interface ModelDescription extends ModelFacts {
  readonly target: string;
  readonly cpu: string;
  readonly threads: number;
  readonly numerics: string;
  readonly kv_blocks: number;
  readonly kv_block_bytes: number;
  /** A block and a point as the disk keeps them. */
  readonly kv_block_payload_bytes: number;
  readonly kv_point_bytes: number;
  /** Rings and carries of one sequence in RAM. */
  readonly kv_private_bytes: number;
}

/** `tokenizer.ggml.*`; null where the file is silent. */
export interface NativeVocabulary {
  readonly model: string;
  readonly tokens: string[];
  readonly tokenTypes: Int32Array;
  readonly merges: string[];
  readonly bosId: number | null;
  readonly eosId: number | null;
  readonly padId: number | null;
  readonly addBos: boolean;
  readonly pre: string;
  readonly chatTemplate: string | null;
}

export interface ScoreOptions {
  readonly model: string;
  readonly tokens: Uint32Array;
  readonly numerics: Numerics;
  /** Rows of one step; 1 goes token by token through the decode path. */
  readonly chunk: number;
  readonly threads: number;
  readonly context?: number;
  /** Where float32 [tokens, vocab] goes, as .npy. */
  readonly logits?: string;
}

export interface ScoreResult {
  readonly tokens: number;
  readonly meanLogLoss: number;
  readonly perplexity: number;
  readonly loadSeconds: number;
  readonly seconds: number;
  readonly tokensPerSecond: number;
  readonly target: string;
  readonly cpu: string;
  readonly threads: number;
  /** Times that the indexer really chose among compressed rows. */
  readonly selections: number;
  readonly paths: Readonly<Record<string, number>>;
}

declare const engineBrand: unique symbol;
/** A native object with a type tag; only the addon can make one. */
export interface EngineHandle {
  readonly [engineBrand]: true;
}

declare const storeBrand: unique symbol;
export interface StoreHandle {
  readonly [storeBrand]: true;
}

export interface OpenStoreOptions {
  readonly directory: string;
  readonly maxBytes: number;
  /** More than that, where the regions that are there already take more. */
  readonly keepsRegions: boolean;
  readonly largestRecord: number;
  /** Of the file system, that stay free. */
  readonly freeFloor: number;
  readonly readOnly: boolean;
  readonly io: 'auto' | 'uring' | 'pool' | 'mmap';
  readonly fault: string;
}

export interface StoreDescription {
  readonly backend: string;
  readonly remark: string;
  readonly regionBytes: number;
  /** The quota that holds. */
  readonly maxBytes: number;
  readonly secret: Uint8Array;
}

type Progress = (done: number, total: number) => void;

/** Throws and rejects with errors that carry a NativeErrorCode. */
export interface NativeAddon {
  version(): string;
  /** Unlike process.exit it does not wait for what still runs on node's pool. */
  exitNow(code: number): never;
  /** `wake` is called when reports begin to wait. */
  open(options: OpenOptions, wake: () => void, progress?: (fraction: number) => void): Promise<EngineHandle>;
  describe(engine: EngineHandle): ModelDescription;
  /** Throws on a malformed plan. */
  submit(engine: EngineHandle, plan: Uint8Array): void;
  /** Copies whole reports; bytes written, 0 when nothing waits. */
  drain(engine: EngineHandle, into: Uint8Array): number;
  stats(engine: EngineHandle, into: Uint8Array): void;
  releasePoint(engine: EngineHandle, point: number): void;
  /** Safe twice. */
  close(engine: EngineHandle): Promise<void>;
  /** null: the file holds no vocabulary. Reads nothing but the file's header. */
  vocabulary(model: string): NativeVocabulary | null;
  inspect(model: string, options: { readonly verify: boolean }, progress?: Progress): Promise<ModelFacts>;
  score(options: ScoreOptions, progress?: Progress): Promise<ScoreResult>;
  /** `wake` is called when events begin to wait. */
  openStore(options: OpenStoreOptions, wake: () => void): Promise<StoreHandle>;
  /** Writes what is queued, ten seconds at most. */
  closeStore(store: StoreHandle): Promise<void>;
  /** Copies whole events; bytes written, 0 when nothing waits. */
  drainStore(store: StoreHandle, into: Uint8Array): number;
  describeStore(store: StoreHandle): StoreDescription;
  /** `record`: StoredRecord and its hashes. `slots`: null for a point. */
  storeAppend(
    store: StoreHandle,
    engine: EngineHandle,
    ticket: number,
    record: Uint8Array,
    slots: Uint32Array | null,
    point: number,
  ): void;
  storeReadBlocks(
    store: StoreHandle,
    engine: EngineHandle,
    ticket: number,
    id: number,
    key: Uint8Array,
    blocks: number,
    skip: number,
    slots: Uint32Array,
    urgent: boolean,
  ): void;
  storeReadPoint(
    store: StoreHandle,
    engine: EngineHandle,
    ticket: number,
    id: number,
    key: Uint8Array,
    position: number,
    urgent: boolean,
  ): void;
  storeVerify(store: StoreHandle, ticket: number, id: number, key: Uint8Array, payloadBytes: number): void;
  storeCancel(store: StoreHandle, ticket: number): void;
  storeReclaim(store: StoreHandle, ticket: number, region: number, keep: Float64Array): void;
  storeDestroy(store: StoreHandle, ticket: number, ids: Float64Array): void;
  storeFlush(store: StoreHandle): void;
  storeStats(store: StoreHandle): StoreStats;
  synth(path: string, options: object, vocabulary: object | null, progress?: Progress): Promise<void>;
}

export type NativeErrorCode = 'MODEL_FILE' | 'INVALID_ARGUMENT' | 'NO_MEMORY' | 'IO' | 'ENGINE' | 'BUSY';
const CODES: readonly string[] = ['MODEL_FILE', 'INVALID_ARGUMENT', 'NO_MEMORY', 'IO', 'ENGINE', 'BUSY'];

/** The code of an error that native threw; null for any other. */
export function nativeErrorCode(error: unknown): NativeErrorCode | null {
  const code: unknown = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' && CODES.includes(code) ? (code as NativeErrorCode) : null;
}

/** The addon was not built, or not for this machine. */
export class AddonError extends Error {}

// The same path from src/addon/ and from dist/addon/.
const ADDON = fileURLToPath(new URL('../../build/Release/nandu.node', import.meta.url));

let addon: NativeAddon | null = null;

/** Loads the addon once. Throws AddonError with a sentence that names the fix. */
export function loadAddon(path: string = ADDON): NativeAddon {
  if (addon && path === ADDON) return addon;
  if (!existsSync(path)) throw new AddonError(`the native addon is missing (${path}): run \`npm run build\``);
  let loaded: NativeAddon;
  try {
    loaded = createRequire(import.meta.url)(path) as NativeAddon;
  } catch (error) {
    const why = (error as Error).message.split('\n')[0];
    throw new AddonError(`the native addon does not load here (${why}): run \`npm run build\` on this machine`);
  }
  if (path === ADDON) addon = loaded;
  return loaded;
}
