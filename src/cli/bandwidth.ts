// Short measurements for `nandu plan`: what this machine's memory copies and its disk reads, in bytes a second. Each takes
// about a second and leaves nothing behind.

import { randomFillSync } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, statfs, unlink } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { StorageError } from './format.js';

const MIB = 2 ** 20;
/** Longer than what a drive's own cache answers at once, shorter than its burst of writes lasts. */
const FILE_BYTES = 256 * MIB;
/** Large, so that a busy machine's scheduler is not what is measured. */
const PIECE_BYTES = 8 * MIB;
/** libuv's threads: as many reads are under way. */
const READS_AT_ONCE = 4;
const READ_MS_MAX = 2000;
/** What O_DIRECT may ask of an address, at most; and what allocators give at least. */
const ALIGNMENT = 4096;
const ALIGNMENT_STEP = 16;

/** Reads past the page cache, in pieces of 8 MiB, four at once. Throws StorageError when that cannot be measured here. */
export async function measureDisk(directory: string): Promise<number> {
  try {
    const { bavail, bsize } = await statfs(directory);
    if (bavail * bsize < 2 * FILE_BYTES) throw new Error(`has less than ${(2 * FILE_BYTES) / MIB} MiB free`);
    const path = join(directory, `.nandu-plan-${process.pid}`);
    const file = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | constants.O_DIRECT, 0o600);
    try {
      await unlink(path);
      return await readSpeed(file);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw new StorageError(`${directory}: ${(error as Error).message}; give --disk-bandwidth instead`);
  }
}

async function readSpeed(file: FileHandle): Promise<number> {
  const piece = await alignedPiece(file);
  for (let at = PIECE_BYTES; at < FILE_BYTES; at += PIECE_BYTES) await file.write(piece, 0, PIECE_BYTES, at);
  await file.datasync();
  const buffers: Uint8Array[] = [];
  for (let index = 0; index < READS_AT_ONCE; index++) buffers.push(await alignedPiece(file));
  let next = 0;
  let bytes = 0;
  const begin = performance.now();
  const reader = async (buffer: Uint8Array): Promise<void> => {
    while (next < FILE_BYTES && performance.now() - begin < READ_MS_MAX) {
      const at = next;
      next += PIECE_BYTES;
      const { bytesRead } = await file.read(buffer, 0, PIECE_BYTES, at);
      bytes += bytesRead; // not in one expression: the other readers add meanwhile
    }
  };
  await Promise.all(buffers.map(reader));
  return bytes / ((performance.now() - begin) / 1000);
}

/**
 * JavaScript cannot ask for an address, so the first piece is written from one place after the other until the kernel takes it.
 * Large buffers begin 16 bytes into a page: from the end of the page down, the first try is a page's beginning, and the fastest.
 */
async function alignedPiece(file: FileHandle): Promise<Uint8Array> {
  const whole = randomFillSync(new Uint8Array(PIECE_BYTES + ALIGNMENT)); // not compressible
  for (let offset = ALIGNMENT - ALIGNMENT_STEP; offset >= 0; offset -= ALIGNMENT_STEP) {
    const piece = whole.subarray(offset, offset + PIECE_BYTES);
    try {
      await file.write(piece, 0, PIECE_BYTES, 0);
      return piece;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EINVAL') throw error;
    }
  }
  throw new Error('the file system takes no direct I/O');
}

const COPY_MS = 400;
/** Beyond every cache. */
const COPY_BYTES = 64 * MIB;
const COPY_THREADS_MAX = 16;

/** Copies on all cores that this process may use; a byte read and a byte written count as two. */
export async function measureMemory(): Promise<number> {
  const threads = Math.min(availableParallelism(), COPY_THREADS_MAX);
  const speeds = await Promise.all(Array.from({ length: threads }, copySpeed));
  return speeds.reduce((sum, speed) => sum + speed, 0);
}

function copySpeed(): Promise<number> {
  const code = `
    const { parentPort, workerData } = require('node:worker_threads');
    const from = new Uint8Array(workerData.bytes).fill(1);
    const to = new Uint8Array(workerData.bytes).fill(2);
    const begin = performance.now();
    let copies = 0;
    do { to.set(from); copies += 1; } while (performance.now() - begin < workerData.ms);
    parentPort.postMessage((2 * copies * workerData.bytes) / ((performance.now() - begin) / 1000));`;
  return new Promise((resolve, reject) => {
    const worker = new Worker(code, { eval: true, workerData: { bytes: COPY_BYTES, ms: COPY_MS } });
    worker.once('message', resolve).once('error', reject);
  });
}
