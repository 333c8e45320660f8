// Records as a store would report them, for prompts written as short strings: 'abc' is three blocks, and prompts that
// begin alike share the blocks of their common beginning.

import { createHash } from 'node:crypto';
import { BLOCK_TOKENS } from '../../../src/kv/block.js';
import type { HashKey, RecordInfo } from '../../../src/kv/store.js';

export const IDENTITY = 'i'.repeat(16);
export const SCOPE = 's'.repeat(16);

export function root(identity = IDENTITY, scope = SCOPE): HashKey {
  return createHash('sha256').update(`${identity}/${scope}`).digest('binary');
}

/** Chain hashes at the end of each letter. */
export function chain(prompt: string, from = root()): HashKey[] {
  let last = from;
  return [...prompt].map((letter) => {
    last = createHash('sha256').update(last, 'latin1').update(letter).digest('binary');
    return last;
  });
}

interface Extras {
  readonly region?: number;
  readonly createdMs?: number;
  readonly identity?: string;
  readonly scope?: string;
  readonly storedBytes?: number;
}

/** Blocks [from, prompt.length) of the prompt. */
export function segment(id: number, prompt: string, from = 0, extras: Extras = {}): RecordInfo {
  const { identity = IDENTITY, scope = SCOPE } = extras;
  const own = root(identity, scope);
  const hashes = chain(prompt, own);
  return {
    id,
    kind: 'segment',
    key: hashes.at(-1) as HashKey,
    parent: from === 0 ? own : (hashes[from - 1] as HashKey),
    identity,
    scope,
    plain: chain(prompt, root('plain', '')).at(-1) as HashKey,
    fromToken: from * BLOCK_TOKENS,
    toToken: prompt.length * BLOCK_TOKENS,
    createdMs: 0,
    payloadBytes: 100 * (prompt.length - from),
    blocks: hashes.slice(from),
    region: 0,
    storedBytes: 100 * (prompt.length - from),
    ...extras,
  };
}

/** At the end of the prompt. */
export function point(id: number, prompt: string, extras: Extras = {}): RecordInfo {
  const { key, toToken, ...rest } = segment(id, prompt, 0, extras);
  return {
    ...rest,
    kind: 'point',
    key,
    toToken,
    parent: key,
    fromToken: toToken,
    blocks: [],
    payloadBytes: 50,
    storedBytes: extras.storedBytes ?? 50,
  };
}
