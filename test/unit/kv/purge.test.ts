// What a purge must take although it came, or was queued, while the purge was under way.

import { expect, test } from 'vitest';
import { prefixIdOf } from '../../../src/kv/chain-hash.js';
import { selectInRam } from '../../../src/kv/ram-selection.js';
import { RamTier } from '../../../src/kv/ram-tier.js';
import { CachedEngine, hitsOf, prompt, tick } from '../../fakes/cached-engine.js';
import { useCache } from '../../fakes/requests.js';

const idOf = (e: CachedEngine, letters: string): string => {
  const promptTokens = Uint32Array.from(prompt(letters));
  const lease = e.cache.open({ promptTokens, numChoices: 1, totalTokens: promptTokens.length + 1, wishes: useCache });
  return prefixIdOf(lease.chain.at(letters.length - 1) as string);
};

test('what a request restores while a purge rewrites what lies before it goes with the rest', async () => {
  const old = new CachedEngine();
  await old.ask(prompt('abcdef'));
  const e = old.restarted('close');
  await e.settle();
  let isDone = false;
  const selection = { scope: null, prefixId: idOf(e, 'abcd'), unusedSinceMs: null, dryRun: false };
  const purged = e.cache.purge(selection).finally(() => {
    isDone = true;
  });
  await tick();
  const asked = e.start(prompt('abcdef'), { stop: { maxTokens: 300 } });
  await e.until(() => isDone);
  await purged;
  const foundIn = ({ cache }: CachedEngine): number => {
    const { hitLiveTokens, hitMemoryTokens, hitDiskTokens } = cache.probe(Uint32Array.from(prompt('abcdef')), '');
    return hitLiveTokens + hitMemoryTokens + hitDiskTokens;
  };
  expect(foundIn(e)).toBeLessThanOrEqual(3 * 128);
  await e.finish([asked]);
  await e.settle();
  // It had begun with what was purged, so nothing of it is kept.
  expect(hitsOf(asked)).toEqual([0, 0, 768, 'none']);
  expect(foundIn(e)).toBeLessThanOrEqual(3 * 128);
  const after = e.restarted('crash');
  await after.settle();
  expect(foundIn(after)).toBeLessThanOrEqual(3 * 128);
});

test('of blocks behind a gap nobody knows what they extend: a purge by prefix takes them', () => {
  const ram = new RamTier({ numSlots: 9, blockBytes: 1, keptBytesMax: 9, releasePoint: () => {}, now: () => 0 });
  // first and second are gone; fourth hangs on third; other begins a chain of its own.
  const chains = [
    ['third', 'second'],
    ['fourth', 'third'],
    ['other', ''],
  ] as const;
  for (const [key, parent] of chains) ram.name(ram.take() as number, key, { parent, scopeTag: 's' });
  const select = (key: string | null) =>
    [...selectInRam(ram, { scopeTag: null, key, unusedSinceMs: null }).keys].sort();
  expect(select('first')).toEqual(['fourth', 'third']);
  expect(select('other')).toEqual(['fourth', 'other', 'third']);
  expect(select(null)).toEqual(['fourth', 'other', 'third']);
});
