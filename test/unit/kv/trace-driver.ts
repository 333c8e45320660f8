// The trace driven through what runs in production: chain hashes, disk index, points, segments and reclaim of src/kv,
// over the store in memory. Of each prompt every token is hashed; nothing is computed.

import { BLOCK_TOKENS } from '../../../src/kv/block.js';
import { chainOf } from '../../../src/kv/chain-hash.js';
import { DiskIndex } from '../../../src/kv/disk-index.js';
import { pointBoundaries, segmentsFor } from '../../../src/kv/points.js';
import { Reclaimer } from '../../../src/kv/reclaim.js';
import type { HashKey, NewRecord } from '../../../src/kv/store.js';
import { FakeStore } from '../../fakes/fake-store.js';
import { TRACE_BLOCK_TOKENS, type TraceRequest } from './trace.js';
import type { TraceResult, TraceSizes } from './trace-reference.js';

const ROOT: HashKey = 'trace'.padEnd(32, '.');
const TAG = 't'.repeat(16);
const RATIO = TRACE_BLOCK_TOKENS / BLOCK_TOKENS;

export function productionRun(trace: readonly TraceRequest[], sizes: TraceSizes): TraceResult {
  const store = new FakeStore({
    regionBytes: sizes.regionBytes,
    regions: sizes.regions,
    blockBytes: sizes.bytesPerToken * BLOCK_TOKENS,
    pointBytes: sizes.pointBytes,
    headerBytes: sizes.headerBytes,
    delayMs: null,
  });
  const index = new DiskIndex();
  const reclaimer = new Reclaimer(index);
  const hashes = new Hashes();

  function settle(nowMs: number): void {
    for (let plan = null, isFirst = true; isFirst || plan; isFirst = false) {
      store.settle();
      for (const event of store.drain()) {
        if (event.t === 'written') {
          if (!event.record) throw new Error(`a write ended with ${event.status}`);
          index.add(event.record);
        } else if (event.t === 'moved') index.moved(event.id, event.region);
        else if (event.t === 'sealed') reclaimer.sealed(event.region);
        else if (event.t === 'reclaimed') reclaimer.done(event.status);
      }
      plan = reclaimer.next(store.stats(), false, nowMs);
      if (plan) store.reclaim(0, plan.region, plan.keep);
    }
  }

  let hitTokens = 0;
  let promptTokens = 0;
  for (const { atMs, blocks, promptTokens: tokens } of trace) {
    promptTokens += tokens;
    const chain = hashes.chain(blocks);
    const stored = index.find(chain).blocks;
    let hit = stored;
    while (hit > 0 && !index.pointAt(chain[hit - 1] as HashKey)) hit--;
    hitTokens += hit * BLOCK_TOKENS;
    index.hit(chain, hit, atMs);
    index.hit(chain, stored, atMs);

    const write = (
      record: Pick<NewRecord, 'kind' | 'key' | 'parent' | 'blocks'>,
      fromBlock: number,
      toBlock: number,
    ) => {
      store.append(
        0,
        {
          ...record,
          identity: TAG,
          scope: TAG,
          plain: record.key,
          fromToken: fromBlock * BLOCK_TOKENS,
          toToken: toBlock * BLOCK_TOKENS,
        },
        record.kind === 'point' ? { t: 'point', point: 1 } : { t: 'slots', slots: record.blocks.map((_, i) => i) },
      );
      settle(atMs);
    };
    for (const { fromBlock, toBlock } of segmentsFor(stored, chain.length, sizes.segmentBlocks * RATIO)) {
      const parent = fromBlock === 0 ? ROOT : (chain[fromBlock - 1] as HashKey);
      const key = chain[toBlock - 1] as HashKey;
      write({ kind: 'segment', key, parent, blocks: chain.slice(fromBlock, toBlock) }, fromBlock, toBlock);
    }
    // One token more than its whole blocks: then the end of the last of them is where the prompt's end point stands.
    const wholeTokens = blocks.length * TRACE_BLOCK_TOKENS + 1;
    const boundaries = sizes.pointEvery === 1 ? blocks.map((_, i) => (i + 1) * TRACE_BLOCK_TOKENS) : [];
    const branchAt = stored > hit ? stored * BLOCK_TOKENS : null;
    const start = hit * BLOCK_TOKENS;
    const prompt = { promptTokens: wholeTokens, totalTokens: wholeTokens, start, boundaries, branchAt };
    for (const at of pointBoundaries({ mode: 'periodic', ...prompt })) {
      const block = at / BLOCK_TOKENS;
      const key = chain[block - 1] as HashKey;
      if (!index.pointAt(key)) write({ kind: 'point', key, parent: key, blocks: [] }, block, block);
    }
    index.dropOrphans();
  }
  const { bytesAppended, bytesReinserted } = store.stats();
  index.checkIntegrity();
  return {
    hitRate: hitTokens / promptTokens,
    writtenBytes: bytesAppended,
    rewrittenBytes: bytesReinserted,
    reclaims: reclaimer.counts().regions,
  };
}

/** Chain hashes by the trace's names, each block hashed once. */
class Hashes {
  readonly #known = new Map<number, readonly HashKey[]>();

  chain(names: readonly number[]): HashKey[] {
    const chain: HashKey[] = [];
    for (const name of names) {
      let keys = this.#known.get(name);
      if (!keys) {
        keys = chainOf(new Uint32Array(TRACE_BLOCK_TOKENS).fill(name), chain.at(-1) ?? ROOT);
        this.#known.set(name, keys);
      }
      chain.push(...keys);
    }
    return chain;
  }
}
