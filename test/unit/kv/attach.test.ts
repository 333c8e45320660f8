// The moment when a cache without a disk gets one: leases go by other names from then on, and what they made is stored.

import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { KvCache } from '../../../src/kv/cache.js';
import { ChainHasher } from '../../../src/kv/chain-hash.js';
import type { DiskTier } from '../../../src/kv/disk-tier.js';
import type { Lease } from '../../../src/kv/lease.js';
import type { WriteRequest } from '../../../src/kv/write.js';

test('of what runs when the disk is attached only what it has computed itself is stored', () => {
  const hasher = () => new ChainHasher(randomBytes(32), randomBytes(32), 'digest');
  const cache = new KvCache({
    ...{ numSlots: 64, blockBytes: 1000, keptBytesMax: 1e6, replayTokens: 0, mode: 'periodic', hasher: hasher() },
    ...{ releasePoint: () => {}, onChange: () => {}, now: () => 0, wallNow: () => 1, prefillTokensPerSecond: () => 0 },
  });
  const open = (tokens: number, seed: number): Lease => {
    const promptTokens = Uint32Array.from({ length: tokens }, (_, i) => (i < 650 ? i : i * 7 + seed));
    const wishes = { read: true, write: true, scope: '', boundaries: [] };
    const lease = cache.open({ promptTokens, numChoices: 1, totalTokens: tokens + 10, wishes });
    expect(cache.admit(lease)).toBe('ready');
    return lease;
  };
  const first = open(2000, 1);
  cache.progress(first, 640);
  const second = open(1500, 2); // there is no point yet: it computes the same blocks in slots of its own
  cache.pointTaken(first, 0, 640, 77, 100); // the first is cancelled, and leaves a point where it stands
  cache.close(first);
  const written: number[] = [];
  const attach = (): void => {
    const write = ({ chain }: WriteRequest): number => written.push(chain.length);
    const disk = { recovering: true, isReadable: true, isWritable: true, recovered: new Promise(() => {}), write };
    cache.attachDisk(disk as unknown as DiskTier, hasher());
  };
  cache.progress(second, 128);
  attach();
  expect(written).toEqual([]);
  cache.progress(second, 640);
  attach();
  expect(written).toEqual([5]);
});
