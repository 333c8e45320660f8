// What is to be written to the disk, and one of it on its way.

import { BLOCK_TOKENS } from './block.js';
import type { PointHandle } from './ram-tier.js';
import type { HashKey, NewRecord, Payload } from './store.js';

export interface WriteRequest {
  /** Up to the boundary that is written. */
  readonly chain: readonly HashKey[];
  readonly plainChain: readonly HashKey[];
  readonly root: HashKey;
  readonly scopeTag: string;
  readonly identityTag: string;
  /** Of every block of `chain`. */
  readonly slots: readonly number[];
  /** Of every block of `chain`, for those who follow the cache's events. */
  readonly tokens: Uint32Array;
  /** At the boundary; null: rows only. */
  readonly point: PointHandle | null;
}

export interface Write {
  readonly record: NewRecord;
  readonly payload: Payload;
  readonly bytes: number;
  /** Of the prefix that it belongs to: a purge looks for its key here. */
  readonly chain: readonly HashKey[];
  readonly tokens: Uint32Array;
  /** Purged while it was under way. */
  isDoomed: boolean;
  /** Its slots or point. */
  isHeld: boolean;
  /** It is written, or will not be. */
  readonly onEnd?: () => void;
}

/** It holds the block that ends with this hash, or lies behind it. */
export function isAt({ chain, record }: Write, key: HashKey): boolean {
  const index = chain.indexOf(key);
  return index >= 0 && record.toToken > index * BLOCK_TOKENS;
}
