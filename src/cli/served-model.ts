// Opens a model file for serving: the native engine, its scheduler and its tokenizer, as one ServedModel. The only place
// where the API meets the addon.

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import type { ModelDescription, NativeAddon, OpenOptions } from '../addon/load.js';
import { NativeRunner } from '../addon/runner.js';
import { DEFAULT_SAMPLING, type ServedModel } from '../api/model.js';
import { within } from '../base/within.js';
import { BUFFER_BYTES, type Config } from '../config.js';
import { NanduEngine } from '../engine/engine.js';
import { BLOCK_TOKENS } from '../kv/block.js';
import { TextService } from '../text/text-service.js';
import type { Vocabulary } from '../text/vocabulary.js';
import { InputError } from './format.js';
import { cacheConfig, type DiskListener, type OpenDisk, openDisk } from './kv.js';
import { readVocabulary } from './vocabulary.js';
import { WeightsFiles } from './weights-digest.js';

export interface OpenedModel {
  readonly model: ServedModel;
  readonly description: ModelDescription;
  /** null: the cache has no disk. */
  readonly disk: OpenDisk | null;
  /** Safe twice. */
  close(): Promise<void>;
}

export interface OpeningListener extends DiskListener {
  /** Fractions of the time that the load takes. */
  readonly onProgress: (fraction: number) => void;
}

/** For a file of some kilobytes. */
const MEMO_PATIENCE_MS = 250;

/** Name that requests may use before the file is read: what it is called, without the number of a split. */
export function modelNameOf(path: string): string {
  return basename(path).replace(/(-\d{5}-of-\d{5})?\.gguf$/i, '');
}

export async function openServedModel(
  addon: NativeAddon,
  path: string,
  config: Config,
  buildId: string,
  listener: OpeningListener,
): Promise<OpenedModel> {
  const { weights, runner, description, vocabulary, text } = await openFile(addon, path, config, listener);
  const cache = cacheConfig(description, config.kvMemory, config.kvPoints);
  const contextLength = Math.min(description.geometry.context, cache.numSlots * BLOCK_TOKENS);
  const eosId = vocabulary?.eosId ?? description.tokenizer.eos_token_id ?? null;
  const { maxRunning, maxWaiting } = config;
  const limits = { contextTokens: contextLength, eosToken: eosId, maxRunning, maxWaiting };
  const engine = new NanduEngine(runner, { ...limits, cache });
  const close = async (disk: OpenDisk | null): Promise<void> => {
    // What ended requests left behind is still on its way to the disk, out of the engine's memory.
    await disk?.close();
    await engine.close();
    await text?.close();
    if (weights instanceof WeightsFiles) weights.close();
  };
  let disk: OpenDisk | null = null;
  try {
    // The engine could open it and this could not.
    if (!(weights instanceof WeightsFiles)) throw new InputError(weights.message);
    const kvBytesPerToken = description.kv[config.numerics].bytes_per_token;
    const facts = { ...factsOf(path, weights, description, buildId), kvBytesPerToken };
    disk = await openDisk({ addon, runner, description, weights, config, cache: engine.kvCache, listener });
    const model = { ...facts, contextLength, eosId, defaultSampling: DEFAULT_SAMPLING, text, engine };
    return { model, description, disk, close: () => close(disk) };
  } catch (error) {
    await close(disk);
    throw error;
  }
}

interface OpenedFile {
  /** Or why they could not be opened. */
  readonly weights: WeightsFiles | Error;
  readonly runner: NativeRunner;
  readonly description: ModelDescription;
  readonly vocabulary: Vocabulary | null;
  readonly text: TextService | null;
}

/** The file by its three readers; where one of them fails, the others are closed. */
async function openFile(
  addon: NativeAddon,
  path: string,
  config: Config,
  { onProgress }: OpeningListener,
): Promise<OpenedFile> {
  const weights = weightsOf(path);
  const options = openOptions(path, config, await isKnown(weights, config.kvDir));
  // Native loads on threads of its own; the vocabulary is read meanwhile.
  const opening = NativeRunner.open(addon, options, onProgress);
  const [opened, read] = await Promise.allSettled([opening, Promise.resolve().then(() => readText(addon, path))]);
  if (opened.status === 'fulfilled' && read.status === 'fulfilled') return { weights, ...opened.value, ...read.value };
  if (weights instanceof WeightsFiles) weights.close();
  if (opened.status === 'rejected') throw opened.reason;
  await opened.value.runner.close();
  throw (read as PromiseRejectedResult).reason;
}

/** What the file says of itself. */
function factsOf(path: string, weights: WeightsFiles, description: ModelDescription, buildId: string) {
  const { name, architecture, geometry, numerics, weight_bytes: weightBytes } = description;
  const sample = sampleOf(weights);
  return {
    name: modelNameOf(path),
    aliases: name && name !== modelNameOf(path) ? [name] : [],
    version: fingerprintOf(sample, description, '').slice(0, 12),
    architecture,
    vocabSize: geometry.vocab,
    weightBytes,
    quantization: sharesOf(description),
    fingerprint: fingerprintOf(sample, description, `${buildId} ${numerics}`),
    kvBlockTokens: BLOCK_TOKENS,
  };
}

/** Or why not: mostly the engine says it better. */
function weightsOf(path: string): WeightsFiles | Error {
  try {
    return WeightsFiles.open(path);
  } catch (error) {
    return error as Error;
  }
}

function readText(addon: NativeAddon, path: string) {
  const vocabulary = readVocabulary(addon, path);
  return { vocabulary, text: vocabulary ? new TextService(vocabulary) : null };
}

/** Whether the very file was opened before, its scales checked then, so that a start need not read all of it. */
async function isKnown(weights: WeightsFiles | Error, directory: string): Promise<boolean> {
  if (!(weights instanceof WeightsFiles) || directory === '') return false;
  return await within(MEMO_PATIENCE_MS, weights.isRemembered(directory), false);
}

function openOptions(model: string, config: Config, isChecked: boolean): OpenOptions {
  const { numerics, threads, context, maxRunning: maxSequences, memoryLimit } = config;
  const kvBytes = memoryLimit === 0 ? 0 : memoryLimit - BUFFER_BYTES;
  return { model, numerics, threads, context, kvBytes, maxSequences, isChecked };
}

function sharesOf({ types }: ModelDescription): ReadonlyMap<string, number> {
  const total = types.reduce((sum, { bytes }) => sum + bytes, 0);
  return new Map(types.map(({ type, bytes }) => [type.toLowerCase(), total > 0 ? bytes / total : 0]));
}

const SAMPLES = 256;
const SAMPLE_BYTES = 4096;
const HEADER_BYTES = 4 * 2 ** 20;

/**
 * Of what the file says about itself, its size and pages spread over it (of the first part, if it is split): two different
 * models differ there, and a file of hundreds of gigabytes is told in milliseconds.
 */
function fingerprintOf(sample: Buffer, description: ModelDescription, salt: string): string {
  const { architecture, types, weight_bytes: weightBytes, tokenizer } = description;
  const geometry = { ...description.geometry, context: 0 }; // --context changes no answer
  const facts = JSON.stringify([salt, architecture, geometry, types, weightBytes, tokenizer]);
  return createHash('sha256').update(facts).update(sample).digest('hex').slice(0, 32);
}

function sampleOf(weights: WeightsFiles): Buffer {
  const { size } = weights;
  const pages = Array.from({ length: SAMPLES }, (_, index) =>
    weights.read(Math.floor((size / SAMPLES) * index), SAMPLE_BYTES),
  );
  return Buffer.concat([weights.read(0, Math.min(size, HEADER_BYTES)), ...pages, Buffer.from(String(size))]);
}
