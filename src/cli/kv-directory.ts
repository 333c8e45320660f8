// How much of a disk the cache may take when nobody says so.

import { readdirSync, statfsSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { StorageError } from './format.js';

/** Of what is free: enough for hundreds of thousands of tokens on a laptop, and nobody misses it. */
const SHARE_OF_FREE = 0.1;
const QUOTA_MAX = 64 * 2 ** 30;

/**
 * Quota of `directory`: `maxBytes`, or for 0 a tenth of what is free there, at most 64 GiB. What the directory holds already
 * counts as free, so that a restart finds the quota that it left. Throws StorageError when nothing on the path is there.
 */
export function quotaFor(directory: string, maxBytes: number): number {
  if (maxBytes > 0) return maxBytes;
  try {
    const { bavail, bsize } = statfsSync(nearestExisting(resolve(directory)));
    return Math.floor(Math.min((bavail * bsize + bytesIn(directory)) * SHARE_OF_FREE, QUOTA_MAX));
  } catch (error) {
    throw new StorageError(`${directory}: ${(error as Error).message}`);
  }
}

/** `path` itself, or the first folder above it that is there. */
export function nearestExisting(path: string): string {
  for (let at = path; ; at = dirname(at)) {
    if (statSync(at, { throwIfNoEntry: false })) return at;
    if (at === dirname(at)) throw new Error('there is no such directory, and none above it');
  }
}

function bytesIn(directory: string): number {
  const stats = statSync(directory, { throwIfNoEntry: false });
  if (!stats?.isDirectory()) return 0;
  return readdirSync(directory).reduce((sum, name) => sum + blocksOf(join(directory, name)) * 512, 0);
}

/** 0 for what cannot be looked at, such as a link that leads to itself: whoever opens it says so. */
function blocksOf(path: string): number {
  try {
    return statSync(path, { throwIfNoEntry: false })?.blocks ?? 0;
  } catch {
    return 0;
  }
}
