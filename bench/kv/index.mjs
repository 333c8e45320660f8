// The disk index at the size of a 1 TB disk of V4-Flash: 55,000 segments of 4,096 tokens and as many points, fed in
// random order as recovery does. Prints one JSON line: seconds to index, bytes a process grows by, time to hash and to
// look up a prompt of 100,000 tokens.
//   node --expose-gc bench/kv/index.mjs [segments]
import { randomBytes } from 'node:crypto';
import { ChainHasher, chainOf, identityOf } from '../../dist/kv/chain-hash.js';
import { DiskIndex } from '../../dist/kv/disk-index.js';

const segments = Number(process.argv[2] ?? 55_000);
const BLOCKS = 32;
const SEGMENT_BYTES = 14_397_440;
const POINT_BYTES = 4_100_096;
const REGION_BYTES = 32 * 1024 * 1024;
const CHAIN_SEGMENTS = 25; // prompts of 102,400 tokens that share nothing: the worst case for memory

const identity = identityOf({
  weights: 'w',
  tokenizer: 't',
  chatEncoding: 'c',
  numericMode: 'reference',
  numericVersion: 1,
  geometry: 'g',
  layout: 'l',
});
const hasher = new ChainHasher(identity, randomBytes(32), '');
const { root, scopeTag } = hasher.scopeOf('');
const prompt = Uint32Array.from({ length: 100_000 }, (_, i) => (i * 7919) % 129_280);
const promptChain = chainOf(prompt, root);

const random = () => randomBytes(32).toString('latin1');
// Fresh copies: every record that comes from the store brings its own strings.
const copy = (text) => Buffer.from(text, 'latin1').toString('latin1');

/** Records `number` * 2 and + 1; chain 0 is the prompt that is looked up. Made anew at each call, and the same. */
const chains = new Map();
function recordsOf(number) {
  const chain = Math.floor(number / CHAIN_SEGMENTS);
  const at = number % CHAIN_SEGMENTS;
  if (!chains.has(chain))
    chains.set(
      chain,
      chain === 0
        ? [...promptChain, ...Array.from({ length: CHAIN_SEGMENTS * BLOCKS - promptChain.length }, random)].join('')
        : randomBytes(CHAIN_SEGMENTS * BLOCKS * 32).toString('latin1'),
    );
  const hashes = chains.get(chain);
  const hash = (block) => copy(hashes.slice(block * 32, block * 32 + 32));
  const last = (at + 1) * BLOCKS - 1;
  const both = {
    identity: copy(hasher.identityTag),
    scope: copy(scopeTag),
    plain: copy(hash(last).split('').reverse().join('')),
    toToken: (last + 1) * 128,
    createdMs: 1.7e12 + number,
    region: number % 30_000,
  };
  return [
    {
      ...both,
      id: number * 2,
      kind: 'segment',
      key: hash(last),
      parent: at === 0 ? copy(root) : hash(at * BLOCKS - 1),
      fromToken: at * BLOCKS * 128,
      blocks: Array.from({ length: BLOCKS }, (_, i) => hash(at * BLOCKS + i)),
      payloadBytes: SEGMENT_BYTES,
      storedBytes: SEGMENT_BYTES,
    },
    {
      ...both,
      id: number * 2 + 1,
      kind: 'point',
      key: hash(last),
      parent: hash(last),
      fromToken: both.toToken,
      blocks: [],
      payloadBytes: POINT_BYTES,
      storedBytes: POINT_BYTES,
    },
  ];
}

const order = Array.from({ length: segments }, (_, i) => i);
for (let i = order.length - 1; i > 0; i--) {
  const j = Math.floor(Math.random() * (i + 1));
  [order[i], order[j]] = [order[j], order[i]];
}

const memory = () => {
  globalThis.gc?.();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
};
for (const number of order) recordsOf(number); // the hashes themselves are the bench's, not the index's
const before = memory();
const index = new DiskIndex();
let seconds = 0;
const BATCH = 500; // events come out of `drain` in batches
for (let i = 0; i < order.length; i += BATCH) {
  const records = order.slice(i, i + BATCH).flatMap(recordsOf);
  const start = performance.now();
  for (const record of records) if (!index.add(record)) throw new Error('refused');
  seconds += (performance.now() - start) / 1000;
}
const start = performance.now();
const orphans = index.dropOrphans().length;
seconds += (performance.now() - start) / 1000;
const bytes = memory() - before;
if (orphans !== 0 || index.size !== segments * 2) throw new Error(`${orphans} orphans of ${index.size}`);

function median(run) {
  const times = Array.from({ length: 51 }, () => {
    const from = performance.now();
    run();
    return performance.now() - from;
  }).sort((a, b) => a - b);
  return times[25];
}
const found = index.find(promptChain);
if (found.blocks !== promptChain.length) throw new Error(`found ${found.blocks} of ${promptChain.length} blocks`);
console.log(
  JSON.stringify({
    bench: 'kv/index',
    records: index.size,
    blocks: index.totals().blocks,
    storedTB: +(((SEGMENT_BYTES + POINT_BYTES) * segments) / 1e12).toFixed(3),
    regions: Math.ceil(((SEGMENT_BYTES + POINT_BYTES) * segments) / REGION_BYTES),
    indexSeconds: +seconds.toFixed(3),
    megabytes: +(bytes / 1e6).toFixed(1),
    hash100kMs: +median(() => chainOf(prompt, root)).toFixed(3),
    find100kMs: +median(() => index.find(promptChain)).toFixed(4),
    pointMs: +median(() => index.deepestPoint(promptChain, found.blocks)).toFixed(4),
    hit100kMs: +median(() => index.hit(promptChain, found.blocks, 1.8e12)).toFixed(4),
  }),
);
