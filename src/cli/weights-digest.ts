// Digest of a model file's whole content: what a cached row depends on is the weights themselves, not their name. A worker
// thread reads and hashes at some 1.5 GB/s; the result is remembered beside the cache, for as long as the file stays the same.
// The files are held open meanwhile: their names may come to mean others, and the engine would still compute with these.

import { createHash } from 'node:crypto';
import { closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { within } from '../base/within.js';
import { readSmallFile, writeDurably } from './durable-file.js';

const MEMO_FILE = 'weights.json';
/** Models that one directory remembers. */
const MEMO_ENTRIES = 64;
const READ_BYTES = 4 * 2 ** 20;
const WRITE_PATIENCE_MS = 2000;

/** The parts behind the first one, as its name has them. Whether there are any, the file itself says to the engine only. */
function partsBehind(path: string): string[] {
  const match = /^(.*-)00001(-of-(\d{5})\.gguf)$/.exec(path);
  if (!match) return [];
  const [, before, after, count] = match;
  const numBehind = Math.max(0, Number(count) - 1);
  return Array.from({ length: numBehind }, (_, index) => `${before}${String(index + 2).padStart(5, '0')}${after}`);
}

interface Part {
  readonly path: string;
  readonly fd: number;
  readonly before: State;
}

/** What no change of a file's content leaves as it was. Times are what a copy may set; the time of change is the kernel's own. */
interface State {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly nlink: bigint;
  readonly mode: bigint;
  readonly uid: bigint;
  readonly gid: bigint;
}

export class WeightsFiles {
  #parts: readonly Part[];
  #isReading = false;
  #isClosed = false;
  #memo: Promise<Record<string, string>> | null = null;

  private constructor(
    parts: readonly Part[],
    private readonly missing: string | null,
  ) {
    this.#parts = parts;
  }

  /** To be called before the engine opens the model, so that no change between the two is missed. Throws what opening throws. */
  static open(path: string): WeightsFiles {
    const behind = partsBehind(path);
    // The engine opens a split file with all its parts, or not at all: where one is missing, this is a whole file.
    const missing = behind.find((part) => !existsSync(part)) ?? null;
    const parts: Part[] = [];
    try {
      for (const part of [path, ...(missing === null ? behind : [])]) {
        const fd = openSync(part, 'r');
        parts.push({ path: part, fd, before: fstatSync(fd, { bigint: true }) });
      }
    } catch (error) {
      for (const { fd } of parts) closeSync(fd);
      throw error;
    }
    return new WeightsFiles(parts, missing);
  }

  /** Whether the names mean these files still; called when the engine has opened it, that it has these very files. */
  isWhereItWas(): boolean {
    return this.#parts.every(isAtItsPath) && (this.missing === null || !existsSync(this.missing));
  }

  /** Whether nobody has written into them since they were opened. Takes microseconds. */
  isUnchanged(): boolean {
    return this.#parts.every((part) => {
      const { fd, before } = part;
      const now = fstatSync(fd, { bigint: true });
      if (now.size !== before.size || now.mtimeNs !== before.mtimeNs) return false;
      // Other names, owners and rights change the time of change too, and no content.
      const isOther = (['nlink', 'mode', 'uid', 'gid'] as const).some((what) => now[what] !== before[what]);
      return now.ctimeNs === before.ctimeNs || isOther || !isAtItsPath(part);
    });
  }

  /** Whether the digest is known in this directory, so that nothing has to be read: only of a model that was opened is it computed. */
  async isRemembered(directory: string): Promise<boolean> {
    return (await this.#remembered(directory))[this.#tag] !== undefined;
  }

  /** 64 hexadecimal digits. `directory`: where results are remembered. Rejects when the files changed while they were read. */
  async digest(directory: string): Promise<string> {
    const tag = this.#tag;
    const memo = await this.#remembered(directory);
    const digest = memo[tag] ?? (await this.#read());
    if (!this.isUnchanged()) throw new Error(`${this.#parts[0]?.path} changed while it was read`);
    if (memo[tag] === undefined) await writeMemo(join(directory, MEMO_FILE), { ...memo, [tag]: digest });
    return digest;
  }

  /** Bytes of the first part. */
  get size(): number {
    return Number(this.#first.before.size);
  }

  /** At most `length` bytes of the first part. */
  read(at: number, length: number): Buffer {
    const buffer = Buffer.alloc(length);
    return buffer.subarray(0, readSync(this.#first.fd, buffer, 0, length, at));
  }

  get #first(): Part {
    return this.#parts[0] as Part;
  }

  /** Safe twice. A digest that is under way keeps them: a number that is free again would mean another file. */
  close(): void {
    this.#isClosed = true;
    if (this.#isReading) return;
    for (const { fd } of this.#parts) closeSync(fd);
    this.#parts = [];
  }

  /** One server has one directory, and reads it once. */
  #remembered(directory: string): Promise<Record<string, string>> {
    this.#memo ??= readMemo(join(directory, MEMO_FILE));
    return this.#memo;
  }

  get #tag(): string {
    return this.#parts.map(({ before }) => tagOf(before)).join(' ');
  }

  async #read(): Promise<string> {
    this.#isReading = true;
    try {
      return await inWorker(this.#parts.map(({ fd }) => fd));
    } finally {
      this.#isReading = false;
      if (this.#isClosed) this.close();
    }
  }
}

function isAtItsPath({ path, before }: Part): boolean {
  const now = statSync(path, { bigint: true, throwIfNoEntry: false });
  return now !== undefined && now.dev === before.dev && now.ino === before.ino;
}

function tagOf({ dev, ino, size, mtimeNs, ctimeNs }: State): string {
  return `${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`;
}

async function readMemo(file: string): Promise<Record<string, string>> {
  try {
    const memo = JSON.parse(await readSmallFile(file)) as Record<string, unknown>;
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

function inWorker(files: readonly number[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: { digestOf: files } });
    worker.unref();
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => reject(new Error('the digest was stopped')));
  });
}

/** Hash of the parts' hashes, in order. */
function digestOf(files: readonly number[]): string {
  const whole = createHash('sha256');
  const buffer = Buffer.allocUnsafe(READ_BYTES);
  for (const fd of files) {
    const part = createHash('sha256');
    for (let at = 0; ; ) {
      const bytesRead = readSync(fd, buffer, 0, READ_BYTES, at);
      if (bytesRead === 0) break;
      part.update(buffer.subarray(0, bytesRead));
      at += bytesRead;
    }
    whole.update(part.digest());
  }
  return whole.digest('hex');
}

const task = workerData as { readonly digestOf?: readonly number[] } | null;
if (!isMainThread && task?.digestOf) parentPort?.postMessage(digestOf(task.digestOf));
