// A small file that is either what it was or what it is to become, whatever happens in between.

import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Resolves when text and name are on the disk. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const draft = `${path}.new`;
  await syncedWith(draft, 'w', (file) => file.writeFile(text));
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
