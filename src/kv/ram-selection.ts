// What a purge takes out of RAM: blocks by scope, by the prefix that they extend, by their age, and the points behind them.

import type { PointHandle, RamTier } from './ram-tier.js';
import type { HashKey } from './store.js';

export interface RamSelection {
  readonly keys: ReadonlySet<HashKey>;
  /** With their bytes. */
  readonly points: ReadonlyMap<PointHandle, number>;
}

/** null stands for any scope, any prefix, any age. Nothing that a sequence holds counts as unused. */
export function selectInRam(
  ram: RamTier,
  scopeTag: string | null,
  key: HashKey | null,
  unusedSinceMs: number | null,
): RamSelection {
  const keys = selectBlocks(ram, scopeTag, key, unusedSinceMs);
  const points = new Map<PointHandle, number>();
  for (const point of ram.points()) {
    if (scopeTag !== null && point.scopeTag !== scopeTag) continue;
    if (unusedSinceMs !== null && (point.isHeld || point.usedMs >= unusedSinceMs)) continue;
    // Of a point whose block has left RAM nobody knows what it extends: better one too many.
    if (key === null || keys.has(point.key) || ram.find(point.key) === undefined) points.set(point.handle, point.bytes);
  }
  return { keys, points };
}

function selectBlocks(
  ram: RamTier,
  scopeTag: string | null,
  key: HashKey | null,
  unusedSinceMs: number | null,
): Set<HashKey> {
  const children = new Map<HashKey, HashKey[]>();
  const selected = new Set<HashKey>();
  for (const block of ram.blocks()) {
    if (scopeTag !== null && block.origin.scopeTag !== scopeTag) continue;
    if (unusedSinceMs !== null && (block.tier === 'live' || block.usedMs >= unusedSinceMs)) continue;
    if (key === null) selected.add(block.key);
    else {
      if (block.key === key) selected.add(key);
      const siblings = children.get(block.origin.parent);
      if (siblings) siblings.push(block.key);
      else children.set(block.origin.parent, [block.key]);
    }
  }
  if (key === null) return selected;
  const waiting = [key];
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const child of children.get(next) ?? []) {
      if (selected.has(child)) continue;
      selected.add(child);
      waiting.push(child);
    }
  }
  return selected;
}
