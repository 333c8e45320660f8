// Digest of a model file's whole content: what a cached row depends on is the weights themselves, not their name. A worker
// thread reads and hashes at some 1.5 GB/s; the result is remembered beside the cache, for as long as the file stays the same.

import { createHash } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { within } from '../base/within.js';
import { writeDurably } from './durable-file.js';

const MEMO_FILE = 'weights.json';
/** Models that one directory remembers. */
const MEMO_ENTRIES = 64;
const READ_BYTES = 4 * 2 ** 20;
const WRITE_PATIENCE_MS = 2000;

/** All parts of a model file, by the first one's path. */
export function partsOf(path: string): string[] {
  const match = /^(.*-)(\d{5})(-of-(\d{5})\.gguf)$/i.exec(path);
  if (!match) return [path];
  const [, before, , after, count] = match;
  return Array.from({ length: Number(count) }, (_, index) => `${before}${String(index + 1).padStart(5, '0')}${after}`);
}

/** What `weightsDigest` gives, if that is remembered; null: the file has to be read. */
export function rememberedDigest(path: string, directory: string): string | null {
  return readMemo(join(directory, MEMO_FILE))[partsOf(path).map(tagOf).join(' ')] ?? null;
}

/** 64 hexadecimal digits. `directory`: where results are remembered; null: nowhere. */
export async function weightsDigest(path: string, directory: string | null): Promise<string> {
  const paths = partsOf(path);
  const tag = paths.map(tagOf).join(' ');
  const memo = directory === null ? {} : readMemo(join(directory, MEMO_FILE));
  const known = memo[tag];
  if (known !== undefined) return known;
  const digest = await inWorker(paths);
  // Replaced while it was read: what was hashed is neither the old file nor the new one.
  if (paths.map(tagOf).join(' ') !== tag) throw new Error(`${path} changed while it was read`);
  if (directory !== null) await writeMemo(join(directory, MEMO_FILE), { ...memo, [tag]: digest });
  return digest;
}

function tagOf(path: string): string {
  const { dev, ino, size, mtimeNs } = statSync(path, { bigint: true });
  return `${dev}:${ino}:${size}:${mtimeNs}`;
}

function readMemo(file: string): Record<string, string> {
  try {
    const memo = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
    const entries = Object.entries(memo).filter(([, digest]) => /^[0-9a-f]{64}$/.test(String(digest)));
    return Object.fromEntries(entries) as Record<string, string>;
  } catch {
    return {}; // not there, or damaged: computed again
  }
}

/** Does not wait for a disk that takes its time: what is not written costs the next start some seconds. */
async function writeMemo(file: string, memo: Record<string, string>): Promise<void> {
  const newest = Object.entries(memo).slice(-MEMO_ENTRIES);
  const written = writeDurably(file, JSON.stringify(Object.fromEntries(newest))).catch(() => {});
  await within(WRITE_PATIENCE_MS, written, undefined);
}

function inWorker(paths: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { digestOf: paths } });
    worker.unref();
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the digest was stopped')));
  });
}

/** Hash of the parts' hashes, in order. */
async function digestOf(paths: readonly string[]): Promise<string> {
  const whole = createHash('sha256');
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  for (const path of paths) {
    const part = createHash('sha256');
    const file = await open(path, 'r');
    try {
      for (;;) {
        const { bytesRead } = await file.read(buffer, 0, READ_BYTES);
        if (bytesRead === 0) break;
        part.update(buffer.subarray(0, bytesRead));
      }
    } finally {
      await file.close();
    }
    whole.update(part.digest());
  }
  return whole.digest('hex');
}

const task = workerData as { readonly digestOf?: readonly string[] } | null;
if (!isMainThread && task?.digestOf) parentPort?.postMessage(await digestOf(task.digestOf));
