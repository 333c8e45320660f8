// Which prefixes clients have pinned, in a file beside the cache, so that a restart keeps them: {"prefix_id": until, ms}.

import { readFileSync } from 'node:fs';
import { open, rename } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { keyOfPrefixId, prefixIdOf } from '../kv/chain-hash.js';
import type { HashKey } from '../kv/store.js';

/** Known to native/store/directory.cc as one of ours. */
const FILE = 'pins.json';

export class PinFile {
  readonly #path: string;
  #saving: Promise<void> = Promise.resolve();
  #next: ReadonlyMap<HashKey, number> | null = null;
  readonly #onFailure: (error: Error) => void;

  constructor(directory: string, onFailure: (error: Error) => void) {
    this.#path = join(directory, FILE);
    this.#onFailure = onFailure;
  }

  /** Those that have not run out. What cannot be read pins nothing. */
  read(nowMs: number): Map<HashKey, number> {
    try {
      const entries = Object.entries(JSON.parse(readFileSync(this.#path, 'utf8')) as Record<string, unknown>);
      const pins = new Map<HashKey, number>();
      for (const [prefixId, untilMs] of entries) {
        const key = keyOfPrefixId(prefixId);
        if (key !== null && typeof untilMs === 'number' && untilMs > nowMs) pins.set(key, untilMs);
      }
      return pins;
    } catch {
      return new Map();
    }
  }

  /** Resolves when these, or newer ones, lie safely on the disk; also when that has failed. */
  save(pins: ReadonlyMap<HashKey, number>): Promise<void> {
    const isFirst = this.#next === null;
    this.#next = pins;
    if (isFirst) this.#saving = this.#saving.then(() => this.#write());
    return this.#saving;
  }

  async #write(): Promise<void> {
    const pins = this.#next ?? new Map();
    this.#next = null;
    const text = JSON.stringify(Object.fromEntries([...pins].map(([key, untilMs]) => [prefixIdOf(key), untilMs])));
    try {
      const file = await open(`${this.#path}.new`, 'w', 0o600);
      try {
        await file.writeFile(text);
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${this.#path}.new`, this.#path);
      const directory = await open(dirname(this.#path), 'r');
      try {
        await directory.sync(); // the name, too
      } finally {
        await directory.close();
      }
    } catch (error) {
      this.#onFailure(error as Error);
    }
  }
}
