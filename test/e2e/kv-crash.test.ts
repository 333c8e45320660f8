// Prefixes survive kill -9: the short form of `node test/e2e/kv/crash.mjs --kills 200`.

import { expect, test } from 'vitest';
import { crash } from './kv/crash.mjs';

/** NANDU_KILLS=200 in CI, which has a step of its own for it. */
const KILLS = Number(process.env.NANDU_KILLS || 12);

test('nothing durable is lost, nothing purged comes back, no answer is wrong', { timeout: 900_000 }, async () => {
  const counts = await crash({ kills: KILLS, seed: 1, lanes: 3 });
  console.log(JSON.stringify(counts));
  expect(counts.failures).toEqual([]);
  expect(counts).toMatchObject({ kills: KILLS, wrong: 0, lost: 0, resurrected: 0, endsWithoutPoint: 0 });
  // There was something to lose, something to come back, and something to get wrong.
  for (const what of ['durableProbes', 'purgedProbes', 'compared', 'restoredTokens'])
    expect(counts[what], what).toBeGreaterThan(0);
});
