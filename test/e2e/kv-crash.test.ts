// Prefixes survive kill -9: the short form of `node test/e2e/kv/crash.mjs --kills 200`.

import { expect, test } from 'vitest';
import { crash } from './kv/crash.mjs';
import { KvServer, makeModel, sleep, temporaryFolder, tokensOf } from './kv/harness.mjs';

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

test('SIGTERM right behind cancelled requests ends with 0', { timeout: 300_000 }, async () => {
  const folder = temporaryFolder('kv-term');
  try {
    const model = makeModel(folder.path, 'hca');
    const flags = ['--kv-points', 'ends', '--kv-max-bytes', '256MiB'];
    for (let stop = 0; stop < 6; stop++) {
      const server = await KvServer.start({ model, dir: `${folder.path}/kv`, flags });
      const streams = Array.from({ length: 8 }, (_, index) =>
        server.open(tokensOf(700 + index * 200, stop * 100 + index), { maxTokens: 300 }),
      );
      await streams[0]?.first;
      for (const stream of streams) stream.cancel();
      await Promise.all(streams.map(({ end }) => end));
      // What they computed is on its way to the disk, and the wakes of its store are on theirs.
      await sleep(stop * 2);
      expect(await server.stop(), server.errors).toBe(0);
    }
  } finally {
    folder.remove();
  }
});
