// nandu cache over a store in memory: what is printed, which records a purge takes, and which exit code says so.

import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { registerCache } from '../../../src/cli/cache.js';
import { exitCodeOf, UnavailableError } from '../../../src/cli/format.js';
import type { RecordInfo } from '../../../src/kv/store.js';
import { RecordedStore } from '../../fakes/recorded-store.js';

const key = (name: string) => name.padEnd(32, '\0');
const prefixId = (name: string) => Buffer.from(key(name), 'latin1').toString('hex');
const tag = (name: string) => name.padEnd(16, '\0');

let lastId = 0;
function segment(
  parent: string,
  blocks: readonly string[],
  fromToken: number,
  more: Partial<RecordInfo> = {},
): RecordInfo {
  const toToken = fromToken + blocks.length * 128;
  return {
    ...{ id: ++lastId, kind: 'segment', key: key(blocks.at(-1) as string), parent: key(parent), plain: key('plain') },
    ...{ identity: tag('model'), scope: tag('scope'), fromToken, toToken, blocks: blocks.map(key), region: 0 },
    ...{ createdMs: 1_700_000_000_000 + lastId, payloadBytes: 4000, storedBytes: 8192 },
    ...more,
  };
}
function point(name: string, at: number, more: Partial<RecordInfo> = {}): RecordInfo {
  const parts = { kind: 'point', fromToken: at, toToken: at, blocks: [], storedBytes: 12_288 } as const;
  return { ...segment(name, [name], at), ...parts, ...more };
}

/**
 *   a1 a2 a3 a4 | a5 a6        points at a2 and a6
 *         └ b4 b5              branches inside the first segment; point at b5
 *   c1
 */
function tree() {
  lastId = 0;
  const front = segment('root', ['a1', 'a2', 'a3', 'a4'], 0);
  const back = segment('a4', ['a5', 'a6'], 512);
  const branch = segment('a3', ['b4', 'b5'], 384);
  const other = segment('root', ['c1'], 0, { scope: tag('other') });
  const points = { a2: point('a2', 256), a6: point('a6', 768), b5: point('b5', 640) };
  return { front, back, branch, other, ...points, all: [points.a6, points.b5, branch, back, points.a2, other, front] };
}

let printed: string[] = [];
beforeEach(() => {
  printed = [];
  vi.spyOn(console, 'log').mockImplementation((text: string) => void printed.push(text));
  vi.spyOn(console, 'error').mockImplementation(() => {});
});
afterEach(() => void vi.restoreAllMocks());

async function run(
  store: RecordedStore,
  ...argv: string[]
): Promise<{ code: number; message: string; opened: unknown[] }> {
  const opened: unknown[] = [];
  const program = new Command('nandu').exitOverride().configureOutput({ writeErr: () => {} });
  registerCache(program, async (directory, isReadOnly) => {
    opened.push([directory, isReadOnly]);
    return store;
  });
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    command.exitOverride().configureOutput(program.configureOutput());
  }
  try {
    await program.parseAsync(['node', 'nandu', 'cache', ...argv]);
    return { code: 0, message: '', opened };
  } catch (error) {
    return { code: exitCodeOf(error), message: (error as Error).message, opened };
  }
}
const json = () => JSON.parse(printed.join('\n'));

test('stats counts what lies there, after the whole index was read', async () => {
  const store = new RecordedStore(tree().all, 2);
  expect(await run(store, 'stats', '--json', '--kv-dir', '/somewhere')).toMatchObject({
    code: 0,
    opened: [['/somewhere', true]],
  });
  expect(json()).toMatchObject({
    ...{ directory: '/fake/kv', io_backend: 'pool', segments: 4, points: 3, stored_tokens: 9 * 128, scopes: 2 },
    ...{ identities: 1, damaged: 2, regions: { total: 8, free: 5, open: 1, sealed: 2 } },
  });
  expect(store.isClosed).toBe(true);
  await run(new RecordedStore(tree().all), 'stats');
  expect(printed.join('\n')).toContain('pool (io_uring is not permitted here)');
});

test('ls shows the newest first, with the prefix_id that a purge takes', async () => {
  const { all } = tree();
  await run(new RecordedStore(all), 'ls', '--json', '--limit', '2');
  expect(json().map(({ prefix_id }: { prefix_id: string }) => prefix_id)).toEqual([prefixId('b5'), prefixId('a6')]);
  printed = [];
  await run(new RecordedStore(all), 'ls', '--limit', '0');
  const lines = (printed[0] as string).split('\n');
  expect(lines.length).toBe(8);
  expect(printed[0]).toContain(prefixId('a4'));
  expect(lines[0]).toMatch(/^kind +prefix_id/);
});

describe('verify', () => {
  test('of a sound directory says so, a few records at a time', async () => {
    const store = new RecordedStore(tree().all);
    expect(await run(store, 'verify')).toMatchObject({ code: 0 });
    expect(printed).toEqual(['7 of 7 records are good']);
    expect(store.numVerifyingMax).toBe(4);
  });

  test('of a damaged one names how many records of which kind, and exits 74', async () => {
    const store = new RecordedStore(tree().all, 3);
    store.verdicts.set(1, 'corrupt').set(2, 'io-error').set(3, 'corrupt');
    const { code, message } = await run(store, 'verify');
    expect([code, message]).toEqual([
      74,
      '/fake/kv: 6 records cannot be used (2 corrupt, 1 io-error, 3 with a broken header); a server computes them again',
    ]);
    expect(printed).toEqual(['4 of 7 records are good']);
    expect(store.isClosed).toBe(true);
  });
});

describe('purge', () => {
  const purged = async (...argv: string[]) => {
    const store = new RecordedStore(tree().all);
    const { code, message, opened } = await run(store, 'purge', ...argv);
    expect([code, message]).toEqual([0, '']);
    return { ids: store.destroyed.sort((a, b) => a - b), opened };
  };
  const idsOf = (...records: RecordInfo[]) => records.map(({ id }) => id).sort((a, b) => a - b);

  test('of all takes all', async () => {
    expect((await purged('--all')).ids).toEqual([1, 2, 3, 4, 5, 6, 7]);
    expect(printed).toEqual(['7 records, 68.0 KiB deleted']);
  });

  test('of a prefix takes what holds it and what extends it, branches and points included', async () => {
    const { front, back, branch, other, a2, a6, b5 } = tree();
    expect((await purged('--prefix', prefixId('a2'))).ids).toEqual(idsOf(front, back, branch, a2, a6, b5));
    expect((await purged('--prefix', prefixId('a4'))).ids).toEqual(idsOf(front, back, a6));
    expect((await purged('--prefix', prefixId('b4'))).ids).toEqual(idsOf(branch, b5));
    expect((await purged('--prefix', prefixId('a5'))).ids).toEqual(idsOf(back, a6));
    expect((await purged('--prefix', prefixId('c1'))).ids).toEqual(idsOf(other));
    expect((await purged('--prefix', prefixId('zz'))).ids).toEqual([]);
  });

  test('by age takes what was written before', async () => {
    const { all } = tree();
    const store = new RecordedStore(
      all.map((record) => (record.id <= 2 ? record : { ...record, createdMs: Date.now() })),
    );
    await run(store, 'purge', '--older-than', '1d');
    expect(store.destroyed.sort()).toEqual([1, 2]);
  });

  test('as a dry run opens read-only and deletes nothing', async () => {
    const { ids, opened } = await purged('--all', '--dry-run', '--json', '--kv-dir', '/d');
    expect([ids, opened]).toEqual([[], [['/d', true]]]);
    expect(json()).toEqual({ records: 7, bytes: 4 * 8192 + 3 * 12_288, dry_run: true });
    expect((await purged('--all', '--kv-dir', '/d')).opened).toEqual([['/d', false]]);
  });

  test('that the disk refuses is not reported as done', async () => {
    const store = new RecordedStore(tree().all);
    store.destroyStatus = 'io-error';
    expect(await run(store, 'purge', '--all')).toMatchObject({
      code: 74,
      message: expect.stringContaining('io-error'),
    });
    expect(printed).toEqual([]);
  });

  test.each([
    [[], 'give --all, --prefix or --older-than'],
    [['--dry-run'], 'give --all, --prefix or --older-than'],
    [['--all', '--prefix', 'ab'.repeat(32)], 'give either --all or --prefix'],
    [['--prefix', 'xyz'], '--prefix must be 64 hexadecimal digits'],
  ])('with %j is wrong use', async (argv, message) => {
    const { code, message: said, opened } = await run(new RecordedStore([]), 'purge', ...argv);
    expect([code, said, opened]).toEqual([64, message, []]);
  });

  test('of an age that is none is wrong use', async () => {
    expect(await run(new RecordedStore([]), 'purge', '--older-than', 'soon')).toMatchObject({ code: 64 });
  });
});

describe('a directory that is none', () => {
  afterEach(() => void vi.unstubAllEnvs());

  test('is wrong use, and who said so is named', async () => {
    const store = new RecordedStore([]);
    expect(await run(store, 'stats', '--kv-dir', 'none')).toMatchObject({
      ...{ code: 64, opened: [], message: expect.stringMatching(/^--kv-dir is none/) },
    });
    expect(await run(store, 'stats', '--kv-dir', '')).toMatchObject({
      ...{ code: 64, opened: [], message: '--kv-dir: "" must not be empty' },
    });
    vi.stubEnv('NANDU_KV_DIR', 'none');
    expect(await run(store, 'stats')).toMatchObject({
      ...{ code: 64, opened: [], message: expect.stringMatching(/^NANDU_KV_DIR is none/) },
    });
  });

  test('by name can be looked at by its path, whatever other variables say', async () => {
    vi.stubEnv('NANDU_IO', 'aio');
    expect((await run(new RecordedStore([]), 'stats', '--kv-dir', './none')).opened).toEqual([['./none', true]]);
  });
});

test('a directory that a server owns is refused with its pid', async () => {
  const program = new Command('nandu').exitOverride();
  registerCache(program, async (directory) => {
    throw new UnavailableError(`${directory} belongs to process 4711`);
  });
  const call = program.parseAsync(['node', 'nandu', 'cache', 'stats', '--kv-dir', '/taken']);
  await expect(call).rejects.toThrow('/taken belongs to process 4711');
  await call.catch((error) => expect(exitCodeOf(error)).toBe(69));
});
