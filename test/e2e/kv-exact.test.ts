// No bit of an answer depends on the cache: a pairwise cover of the product in kv/product.mjs, against real servers. The whole
// product is `node test/e2e/kv/product.mjs`.

import { expect, test } from 'vitest';
import { pairwiseCover, runAll } from './kv/product.mjs';

const SEED = 1;
/** Servers at a time: one computes while another one starts or waits for its disk. */
const JOBS = 3;

test('answers are the same bits wherever their prefix comes from', { timeout: 600_000 }, async () => {
  const servers = pairwiseCover(SEED);
  const counts = await runAll(servers, SEED, JOBS);
  console.log(JSON.stringify(counts));
  expect(counts.servers).toBe(servers.length);
  // Each place was really used.
  for (const place of ['liveTokens', 'memoryTokens', 'diskTokens', 'evictions'])
    expect(counts[place], place).toBeGreaterThan(0);
});
