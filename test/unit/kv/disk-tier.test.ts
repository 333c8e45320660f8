// Stories of the disk tier alone: which records are written for which prefix, what is held meanwhile, what a restore reads, and
// what happens when the disk fails. Prompts are letters, a block each (records.ts); the store is fake-store.ts without payloads.

import { expect, test, vi } from 'vitest';
import { DiskTier, type RestoreOutcome } from '../../../src/kv/disk-tier.js';
import { RamTier } from '../../../src/kv/ram-tier.js';
import { type RecordInfo, type StoreEvent, storedBytes } from '../../../src/kv/store.js';
import type { CacheEvent } from '../../../src/kv/types.js';
import { tick } from '../../fakes/cached-engine.js';
import { FakeStore, type FakeStoreOptions } from '../../fakes/fake-store.js';
import { chain, IDENTITY, root, SCOPE } from './records.js';

interface Options {
  readonly store?: FakeStoreOptions;
  readonly writeBudgetBytes?: number;
  readonly blockBytes?: number;
  readonly isModelUnchanged?: () => boolean;
}

function make({ store: storeOptions, writeBudgetBytes = 0, blockBytes = 1000, ...more }: Options = {}) {
  const { isModelUnchanged = () => true } = more;
  const clock = { ms: 0 };
  const store = new FakeStore({ blockBytes, delayMs: null, now: () => clock.ms, ...storeOptions });
  const ram = new RamTier({
    numSlots: 99,
    blockBytes: 1,
    keptBytesMax: 0,
    releasePoint: () => {},
    now: () => clock.ms,
  });
  const events: CacheEvent[] = [];
  const problems: string[] = [];
  const disk = new DiskTier({
    ...{ store, ram, maxBytes: 1 << 24, blockPayloadBytes: blockBytes, pointPayloadBytes: 4000, writeBudgetBytes },
    now: () => clock.ms,
    wallNow: () => clock.ms,
    onEvent: (event) => events.push(event),
    onProblem: (problem) => problems.push(problem),
    ...{ pins: new Map(), savePins: async () => {}, onRoom: () => {}, isModelUnchanged },
  });
  store.reportRecovered();
  store.onWake();
  let numPoints = 0;
  /** As the cache does: slots and a point that the caller holds until the write holds them too. */
  const write = (letters: string, { withPoint = true, scope = SCOPE } = {}): number | null => {
    const own = root(IDENTITY, scope);
    const slots = [...letters].map(() => ram.take() as number);
    const point = withPoint ? 1000 + ++numPoints : null;
    if (point !== null) ram.addPoint(point, 1, null, scope);
    const plainChain = chain(letters, root('plain', ''));
    const keys = chain(letters, own);
    const queued = disk.write({
      chain: keys,
      plainChain,
      root: own,
      scopeTag: scope,
      identityTag: IDENTITY,
      slots,
      tokens: new Uint32Array(keys.length * 128),
      point,
    });
    for (const slot of slots) ram.release(slot);
    if (point !== null) ram.releasePoint(point);
    return queued;
  };
  const settle = async (): Promise<void> => {
    do {
      store.settle();
      await tick();
      disk.index.checkIntegrity();
    } while (store.stats().ioQueued > 0);
  };
  const restore = (letters: string, deadlineMs = 1e6) => {
    const found = disk.index.find(chain(letters));
    let first = 0;
    const parts = found.pieces.map((piece) => {
      const run = { ...piece, first };
      first += piece.blocks;
      return { run, slots: Array.from({ length: piece.blocks }, () => ram.take() as number) };
    });
    const point = disk.index.pointAt(chain(letters).at(-1) as string);
    const outcomes: RestoreOutcome[] = [];
    const giveUp = disk.restore(parts, point, deadlineMs, (outcome) => outcomes.push(outcome));
    return { outcomes, giveUp };
  };
  const records = () =>
    store.records().map(({ kind, fromToken, toToken }) => `${kind} ${fromToken / 128}-${toToken / 128}`);
  return { clock, store, ram, disk, events, problems, write, settle, restore, records };
}

/** What the store says. */
function tell({ store }: ReturnType<typeof make>, ...events: StoreEvent[]): void {
  store.drain = () => events;
  store.onWake();
  store.drain = FakeStore.prototype.drain;
}

/** What is asked to be reclaimed once no region is free; it is never done. */
function reclaims(d: ReturnType<typeof make>): { ticket: number; region: number }[] {
  const asked: { ticket: number; region: number }[] = [];
  d.store.reclaim = (ticket, region) => asked.push({ ticket, region });
  const full = { regionsFree: 0, regionsTotal: 16, regionsLimit: 16 };
  d.store.stats = () => ({ ...FakeStore.prototype.stats.call(d.store), ...full });
  tell(d);
  return asked;
}

test('rows and a point are written once; what extends them is written from where they end', async () => {
  const d = make();
  expect(d.write('abc')).toBe(384);
  expect(d.write('abc')).toBe(0); // queued
  expect(d.write('abcde')).toBe(256);
  expect(d.write('abx')).toBe(128);
  await d.settle();
  expect(d.records()).toEqual(['segment 0-3', 'point 3-3', 'segment 3-5', 'point 5-5', 'segment 2-3', 'point 3-3']);
  expect(d.write('abc')).toBe(0);
  expect(d.write('ab')).toBe(0); // its point is new, its rows are not
  expect(d.write('abcde', { withPoint: false })).toBe(0);
  await d.settle();
  expect(d.records().slice(6)).toEqual(['point 2-2']);
});

test('what a disk that hangs was to take gives its memory back, and the disk is left alone', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const d = make();
    d.store.hangs = true;
    d.write('abc');
    d.write('xy');
    d.store.settle();
    expect(d.ram.stats).toMatchObject({ heldBlocks: 5, heldPoints: 2 });
    // One that the store has begun with: it is gathered, and does not end.
    tell(d, { t: 'gathered', ticket: 1 });
    expect(d.ram.stats).toMatchObject({ heldBlocks: 2, heldPoints: 2 });
    vi.advanceTimersByTime(9_000);
    expect(d.disk.isReadable).toBe(true);
    vi.advanceTimersByTime(1_000);
    await tick();
    d.store.onWake();
    expect(d.ram.stats).toMatchObject({ heldBlocks: 0, heldPoints: 0 });
    expect(d.disk.isReadable).toBe(false);
    expect(d.disk.problem).toContain('writes do not come to an end');
    expect(d.write('pq')).toBe(null);
    expect(d.disk.wasNotStored(chain('xy')[1] as string)).toBe(true);
    d.store.hangs = false;
    d.clock.ms += 6_000;
    expect(d.write('pq')).toBe(256);
    await d.settle();
    expect(d.disk.index.find(chain('pq')).blocks).toBe(2);
    vi.advanceTimersByTime(60_000);
    expect(d.disk.isReadable).toBe(true);
  } finally {
    vi.useRealTimers();
  }
});

test('what waits for a reclaim that hangs gives its memory back too', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  try {
    const d = make({ store: { regionBytes: 16_384, regions: 4 } });
    d.store.reclaim = () => {}; // never answered
    const letters = 'abcdefghijklmnopqrst';
    for (let at = 0; at < letters.length; at += 2) {
      d.write(letters.slice(at, at + 2), { withPoint: false });
      d.store.settle();
      await tick();
    }
    expect(d.ram.stats.heldBlocks).toBeGreaterThan(2);
    vi.advanceTimersByTime(10_000);
    expect(d.ram.stats.heldBlocks).toBe(0);
    expect(d.disk.problem).toContain('writes do not come to an end');
  } finally {
    vi.useRealTimers();
  }
});

test('slots and point are held from the call until they are written, whatever comes of it', async () => {
  for (const fails of [false, true]) {
    const d = make();
    if (fails) d.store.health = 'io-error';
    d.write('abc');
    expect(d.ram.stats).toMatchObject({ heldBlocks: 3, heldPoints: 1 });
    await d.settle();
    expect(d.ram.stats).toMatchObject({ heldBlocks: 0, heldPoints: 0 });
    expect(d.disk.index.size).toBe(fails ? 0 : 2);
    expect(d.disk.wasNotStored(chain('abc')[2] as string)).toBe(fails);
  }
});

test('segments end at multiples of 4,096 tokens, or earlier where a region holds less', async () => {
  const letters = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJ'; // 36 blocks
  const d = make();
  d.write(letters, { withPoint: false });
  await d.settle();
  expect(d.records()).toEqual(['segment 0-32', 'segment 32-36']);
  const small = make({ blockBytes: 2000, store: { regionBytes: 32_768, regions: 8 } });
  small.write(letters.slice(0, 11), { withPoint: false });
  await small.settle();
  expect(small.records()).toEqual(['segment 0-8', 'segment 8-11']);
});

test('stored bytes count header, checksums, hashes and padding', () => {
  expect(storedBytes(1000, 1)).toBe(2 * 4096);
  expect(storedBytes(4096, 1)).toBe(2 * 4096);
  expect(storedBytes(4097, 1)).toBe(3 * 4096);
  // 512 + 4 * 64 + 32 * 200 bytes of header need a second page.
  expect(storedBytes(64 * 65_536, 200)).toBe((2 + 1024) * 4096);
});

test('events tell of blocks when they are durable, and of blocks that are gone', async () => {
  const d = make({ store: { commit: 'flush' } });
  d.write('ab');
  await d.settle();
  expect(d.events).toEqual([]);
  d.disk.flush();
  await d.settle();
  expect(d.events.map(({ t }) => t)).toEqual(['stored', 'stored']);
  const [first, second] = d.events as Extract<CacheEvent, { t: 'stored' }>[];
  expect(first?.parentHash).toEqual(new Uint8Array(0));
  expect(second?.parentHash).toEqual(first?.blockHash);
  // What a snapshot tells of was read back from headers, which hold no tokens.
  expect(d.disk.snapshot()).toEqual(d.events.map((event) => ({ ...event, tokens: [] })));
  expect(first?.tokens).toHaveLength(128);
  const purged = d.disk.purge({ scopeTag: null, key: null, unusedSinceMs: null });
  await d.settle();
  expect((await purged).blocks).toBe(2);
  expect(d.events.slice(2).map(({ t }) => t)).toEqual(['removed', 'removed']);
  expect(d.store.records()).toEqual([]);
});

test('what the disk lost after it had taken it is not found any more, nor what hangs on it', async () => {
  const d = make();
  d.store.failNext('lost');
  d.write('abc');
  await d.settle();
  expect(d.disk.index.size).toBe(0);
  expect(d.disk.wasNotStored(chain('abc')[2] as string)).toBe(true);
  expect(d.write('abc')).toBe(384);
  await d.settle();
  expect(d.disk.index.find(chain('abc')).blocks).toBe(3);
});

test('a segment that could not be written leaves nothing behind that hangs on it', async () => {
  const d = make();
  d.write('ab');
  await d.settle();
  d.store.failNext('write-error');
  d.write('abcd');
  await d.settle();
  expect(d.disk.index.size).toBe(2);
  expect(d.disk.index.find(chain('abcd')).blocks).toBe(2);
  expect(d.write('abcd')).toBe(256);
  await d.settle();
  expect(d.disk.index.find(chain('abcd')).blocks).toBe(4);
  expect(d.disk.index.pointAt(chain('abcd')[3] as string)).not.toBeNull();
});

test('a restore reads each record once and ends once', async () => {
  const d = make();
  d.write('abc');
  await d.settle();
  const { outcomes } = d.restore('abc');
  expect(outcomes).toEqual([]);
  await d.settle();
  expect(outcomes).toEqual([{ ok: true, bytes: 7000, point: expect.any(Number), mayTryAgain: false }]);
  expect(d.store.readIds).toEqual([1, 2]);
});

test.each([
  ['corrupt', { mayTryAgain: true }],
  ['read-error', { mayTryAgain: false }],
] as const)('a restore that meets %s ends as failed, with what it knows', async (fault, expected) => {
  const d = make();
  d.write('abc');
  await d.settle();
  d.store.failNext(fault);
  const { outcomes } = d.restore('abc');
  await d.settle();
  expect(outcomes).toMatchObject([{ ok: false, ...expected }]);
  expect(d.disk.index.size).toBe(fault === 'corrupt' ? 0 : 2);
  expect(d.disk.stats().quarantined).toBe(fault === 'corrupt' ? 1 : 0);
});

test('a record that moves while it is read leaves no region that is read for ever', async () => {
  const d = make();
  d.write('ab', { withPoint: false });
  await d.settle();
  const { id, region } = d.store.records()[0] as RecordInfo;
  const { outcomes } = d.restore('ab');
  tell(d, { t: 'sealed', region }, { t: 'moved', id, region: 9 });
  await d.settle();
  expect(outcomes).toMatchObject([{ ok: true }]);
  expect(reclaims(d).map(({ region: asked }) => asked)).toEqual([region]);
});

test('a restore that is given up ends when the last read has', async () => {
  const d = make();
  d.write('abc');
  await d.settle();
  const { outcomes, giveUp } = d.restore('abc');
  giveUp();
  giveUp();
  expect(outcomes).toEqual([]); // never from inside
  await d.settle();
  expect(outcomes).toEqual([{ ok: false, bytes: 0, point: null, mayTryAgain: false }]);
  expect(d.problems).toEqual([]); // nobody's fault
});

test('a disk that hangs costs three restores their deadline, then it is left alone, and comes back by itself', async () => {
  const d = make();
  d.write('abc');
  await d.settle();
  d.store.hangs = true;
  for (let times = 0; times < 3; times++) {
    expect(d.disk.isReadable).toBe(true);
    const { outcomes } = d.restore('abc', 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await tick();
    expect(outcomes).toMatchObject([{ ok: false }]);
  }
  expect(d.disk.isReadable).toBe(false);
  expect(d.problems.at(-1)).toMatch(/^Prompt cache: the disk is not used for another 5 s/);
  expect(d.write('xyz')).toBeNull();
  d.store.hangs = false;
  d.clock.ms += 5001;
  expect(d.disk.isReadable).toBe(true);
  const { outcomes } = d.restore('abc');
  expect(d.disk.isReadable).toBe(false); // one tries it
  await d.settle();
  expect(outcomes).toMatchObject([{ ok: true }]);
  expect(d.disk.isReadable).toBe(true);
  expect(d.problems.at(-1)).toBe('');
});

test('beyond the daily budget nothing is written, and the next day it is', async () => {
  const d = make({ writeBudgetBytes: (1 << 20) + 30_000, store: { headerBytes: 4096 } });
  expect(d.write('abc')).toBe(384); // 8,192 and 8,192 bytes
  expect(d.write('xyz')).toBeNull();
  expect(d.disk.wasNotStored(chain('xyz')[0] as string)).toBe(true);
  expect(d.disk.stats()).toMatchObject({ bytesWrittenToday: 16_384, dailyWriteBudgetBytes: (1 << 20) + 30_000 });
  d.clock.ms += 24 * 3600 * 1000;
  expect(d.write('xyz')).toBe(384);
  await d.settle();
});

test('a full, a read-only and a broken disk say so in a sentence, and are well again when they say so', async () => {
  for (const status of ['no-space', 'read-only', 'io-error'] as const) {
    const d = make();
    d.store.reportHealth(status, 'as it happens');
    await d.settle();
    expect(d.problems.at(-1)).toMatch(/^Prompt cache: .*as it happens/);
    d.write('ab');
    await d.settle();
    expect(d.ram.stats).toMatchObject({ heldBlocks: 0, heldPoints: 0 });
    d.store.reportHealth('ok', '');
    await d.settle();
    expect(d.problems.at(-1)).toBe('');
    expect(d.write('ab')).toBe(256);
    await d.settle();
    expect(d.disk.index.size).toBe(2);
  }
});

test('a purge inside a segment keeps what lies before it, and what others hang on that', async () => {
  const d = make();
  d.write('abcd');
  await d.settle();
  d.write('abxy'); // hangs on the middle of the first
  await d.settle();
  const key = chain('abc').at(-1) as string;
  const purged = d.disk.purge({ scopeTag: null, key, unusedSinceMs: null });
  for (let round = 0; round < 4; round++) await d.settle();
  await purged;
  expect(d.disk.index.find(chain('abcd')).blocks).toBe(2);
  expect(d.disk.index.find(chain('abxy')).blocks).toBe(4);
  expect(d.records().sort()).toEqual(['point 4-4', 'segment 0-2', 'segment 2-4']);
  expect(d.ram.stats).toMatchObject({ heldBlocks: 0, heldPoints: 0 });
  d.disk.index.checkIntegrity();
});

test('what moved after it had left the index is purged where it lies now', async () => {
  const d = make();
  d.write('ab', { withPoint: false });
  await d.settle();
  const destroyed: (readonly number[])[] = [];
  const destroy = d.store.destroy.bind(d.store);
  d.store.destroy = (ticket, ids) => {
    destroyed.push(ids);
    destroy(ticket, ids);
  };
  const { id, region } = d.store.records()[0] as RecordInfo;
  d.disk.hit(chain('ab'), 2);
  tell(d, { t: 'sealed', region });
  // A reclaim that keeps it is under way when what it hangs on turns out to be corrupt.
  const [reclaim] = reclaims(d);
  d.disk.index.remove(id, 'corrupt');
  tell(d, { t: 'moved', id, region: 9 }, { t: 'reclaimed', ticket: reclaim?.ticket as number, status: 'ok', region });
  const purged = d.disk.purge({ scopeTag: null, key: null, unusedSinceMs: null });
  await d.settle();
  await purged;
  expect(destroyed).toEqual([[id]]);
});

test('until recovery is done a purge waits, and then has all of it', async () => {
  const d = make();
  d.write('abc');
  await d.settle();
  const store = d.store.reopened('close');
  const ram = new RamTier({ numSlots: 9, blockBytes: 1, keptBytesMax: 0, releasePoint: () => {}, now: () => 0 });
  const disk = new DiskTier({
    ...{ store, ram, maxBytes: 1 << 24, blockPayloadBytes: 1000, pointPayloadBytes: 4000, writeBudgetBytes: 0 },
    ...{ now: () => 0, wallNow: () => 0, onEvent: () => {}, onProblem: () => {} },
    ...{ pins: new Map(), savePins: async () => {}, onRoom: () => {}, isModelUnchanged: () => true },
  });
  expect(disk.recovering).toBe(true);
  const purged = disk.purge({ scopeTag: null, key: null, unusedSinceMs: null });
  await tick();
  await tick();
  expect(disk.recovering).toBe(false);
  store.settle();
  expect((await purged).blocks).toBe(3);
  expect(store.records()).toEqual([]);
});

test('a purge that the disk does not take is refused, and hidden all the same', async () => {
  const d = make();
  d.write('abc');
  await d.settle();
  d.store.failNext('destroy-error');
  const purged = d.disk.purge({ scopeTag: SCOPE, key: null, unusedSinceMs: null });
  const refused = expect(purged).rejects.toMatchObject({ reason: 'CACHE_UNAVAILABLE' });
  expect(d.disk.index.size).toBe(0);
  await d.settle();
  await refused;
});

test('rows of other weights than those that the records are named after are not stored, and it says so once', async () => {
  let isModelUnchanged = true;
  const d = make({ isModelUnchanged: () => isModelUnchanged });
  d.write('abc');
  await d.settle();
  isModelUnchanged = false;
  expect(d.write('xyz')).toBeNull();
  isModelUnchanged = true; // put back: what the engine has computed since is still of neither
  expect(d.write('uvw')).toBeNull();
  await d.settle();
  expect(d.records().sort()).toEqual(['point 3-3', 'segment 0-3']);
  expect([d.disk.isReadable, d.disk.isWritable]).toEqual([false, false]);
  expect(d.problems).toEqual([expect.stringMatching(/^Prompt cache: the model file was written to/)]);
});
