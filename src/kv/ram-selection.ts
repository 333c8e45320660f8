// What a purge takes out of RAM: blocks by scope, by the prefix that they extend, by their age, and the points behind them.

import type { Selection } from './disk-index.js';
import type { PointHandle, RamTier } from './ram-tier.js';
import type { HashKey } from './store.js';

export interface RamSelection {
  readonly keys: ReadonlySet<HashKey>;
  readonly points: ReadonlySet<PointHandle>;
  readonly pointBytes: number;
}

/** null stands for any scope, any prefix, any age. Nothing that a sequence holds counts as unused. */
export function selectInRam(ram: RamTier, selection: Selection): RamSelection {
  const { scopeTag, key, unusedSinceMs } = selection;
  const keys = selectBlocks(ram, selection);
  const points = new Set<PointHandle>();
  let pointBytes = 0;
  for (const point of ram.points()) {
    if (scopeTag !== null && point.scopeTag !== scopeTag) continue;
    if (unusedSinceMs !== null && (point.isHeld || point.usedMs >= unusedSinceMs)) continue;
    // Of a point whose block has left RAM nobody knows what it extends: better one too many.
    if (key !== null && !keys.has(point.key) && ram.find(point.key) !== undefined) continue;
    points.add(point.handle);
    pointBytes += point.bytes;
  }
  return { keys, points, pointBytes };
}

function selectBlocks(ram: RamTier, { scopeTag, key, unusedSinceMs }: Selection): Set<HashKey> {
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
  // Behind a gap nobody knows what they extend; the disk may fill it again. Better one too many, as with points.
  const waiting = [key];
  for (const [parent, orphans] of children) {
    if (parent === '' || ram.find(parent) !== undefined) continue;
    for (const orphan of orphans) selected.add(orphan);
    waiting.push(...orphans);
  }
  for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
    for (const child of children.get(next) ?? []) {
      if (selected.has(child)) continue;
      selected.add(child);
      waiting.push(child);
    }
  }
  return selected;
}
