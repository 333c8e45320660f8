// A small file that is either what it was or what it is to become, whatever happens in between. Others may have put anything
// under its name: nothing here waits for a writer, nor reads without end.

import { constants } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Above anything that we write there. */
const READ_BYTES_MAX = 2 ** 20;

/** '' where no file is, or nothing that we can have written. Rejects when what is there cannot be read now. */
export async function readSmallFile(path: string): Promise<string> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      return stats.isFile() && stats.size <= READ_BYTES_MAX ? await file.readFile('utf8') : '';
    } finally {
      await file.close();
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}

/** Resolves when text and name are on the disk. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  await rm(draft, { force: true });
  await syncedWith(draft, 'wx', (file) => file.writeFile(text));
  await rename(draft, path);
  await syncedWith(dirname(path), 'r', async () => {});
}

async function syncedWith(
  path: string,
  flags: string,
  use: (file: Awaited<ReturnType<typeof open>>) => Promise<void>,
): Promise<void> {
  const file = await open(path, flags, 0o600);
  try {
    await use(file);
    await file.sync();
  } finally {
    await file.close();
  }
}
