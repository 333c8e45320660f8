// Which prefixes clients have pinned, in a file beside the cache, so that a restart keeps them: {"prefix_id": until, ms}.

import { join } from 'node:path';
import { keyOfPrefixId, prefixIdOf } from '../kv/chain-hash.js';
import type { Pins } from '../kv/disk-pins.js';
import type { HashKey } from '../kv/store.js';
import { readSmallFile, writeDurably } from './durable-file.js';

/** Known to native/store/directory.cc as one of ours. */
const FILE = 'pins.json';

export class PinFile {
  readonly #path: string;
  #saving: Promise<void> = Promise.resolve();
  /** What is there could not be read: it is not to be replaced by less. */
  #unread: Error | null = null;

  constructor(directory: string) {
    this.#path = join(directory, FILE);
  }

  /** Those that have not run out. Damaged content pins nothing. */
  async read(nowMs: number): Promise<Map<HashKey, number>> {
    const pins = new Map<HashKey, number>();
    const text = await readSmallFile(this.#path).catch((error: Error) => {
      this.#unread = error;
      return '';
    });
    for (const [prefixId, untilMs] of Object.entries(parsed(text))) {
      const key = keyOfPrefixId(prefixId);
      if (key !== null && typeof untilMs === 'number' && untilMs > nowMs) pins.set(key, untilMs);
    }
    return pins;
  }

  /** Resolves when they lie safely on the disk. One after the other, so that the newest stays. */
  save(pins: Pins): Promise<void> {
    const text = JSON.stringify(Object.fromEntries([...pins].map(([key, untilMs]) => [prefixIdOf(key), untilMs])));
    const saved = this.#saving.then(() => {
      if (this.#unread) throw this.#unread;
      return writeDurably(this.#path, text);
    });
    this.#saving = saved.catch(() => {});
    return saved;
  }
}

function parsed(text: string): Record<string, unknown> {
  try {
    return (JSON.parse(text) as Record<string, unknown> | null) ?? {};
  } catch {
    return {};
  }
}
