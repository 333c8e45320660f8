// The cache's directory from outside: how much of a disk it may take when nobody says so, and whether it is still there.

import { readdirSync, statfsSync, statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { StorageError } from './format.js';

/** Of what is free: enough for hundreds of thousands of tokens on a laptop, and nobody misses it. */
const SHARE_OF_FREE = 0.1;
const QUOTA_MAX = 64 * 2 ** 30;

/**
 * Quota of `directory`: `maxBytes`, or for 0 a tenth of what is free there, at most 64 GiB. What the directory holds already
 * counts as free; the store keeps it whatever comes out (keepsRegions). Throws StorageError when nothing on the path is there.
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

/** Without these a start would not find what lies there. */
const WATCHED = ['data', 'secret'];
const WATCH_MS = 1000;

/** Tells when the names of the store's open files come to mean nothing, or other files, and when they are back. */
export function watchFiles(directory: string, onChange: (isThere: boolean) => void): { stop(): void } {
  let opened: string | null = null;
  let wasThere = true;
  let timer: NodeJS.Timeout | null = null;
  let isStopped = false;
  // One look after the other: on a file system that hangs only one thread waits.
  const look = async (): Promise<void> => {
    const files = await Promise.all(WATCHED.map((name) => numberOf(join(directory, name))));
    const now = files.join(' ');
    opened ??= now;
    if (isStopped) return;
    if (files.every((file) => file !== UNKNOWN) && (now === opened) !== wasThere) {
      wasThere = !wasThere;
      onChange(wasThere);
    }
    timer = setTimeout(look, WATCH_MS).unref();
  };
  void look();
  return {
    stop: () => {
      isStopped = true;
      if (timer) clearTimeout(timer);
    },
  };
}

const UNKNOWN = '?';

async function numberOf(path: string): Promise<string> {
  try {
    const { dev, ino } = await stat(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A disk that fails says something else, and the store hears of it.
    return code === 'ENOENT' || code === 'ENOTDIR' ? '-' : UNKNOWN;
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
