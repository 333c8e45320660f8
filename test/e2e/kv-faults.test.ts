// A disk that lies, fails, fills, hangs, is damaged or taken away costs hits and never a wrong or missing answer: real servers on
// real directories. Every answer is compared with the one that bypasses the cache. Each test prints its figures as JSON.

import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { KvServer, makeModel, randomFrom, sleep, temporaryFolder, tokensOf } from './kv/harness.mjs';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

const SEED = 1;
const QUOTA = ['--kv-max-bytes', '128MiB'];
/** So that every hit comes from the disk. */
const DISK_ONLY = [...QUOTA, '--kv-memory', '0'];
const BYPASS = { mode: 'CACHE_MODE_BYPASS' };
const LENGTHS = [129, 257, 300, 500, 641, 900, 150, 400];
const PROMPTS = LENGTHS.map((length, index) => tokensOf(length, 70 + index));
const HITS = LENGTHS.reduce((sum, length) => sum + Math.floor((length - 1) / 128) * 128, 0);

const folder = temporaryFolder('kv-faults');
let model = '';
const answers: string[] = [];
beforeAll(async () => {
  model = makeModel(folder.path, 'mixed');
  const server = await KvServer.start({ model });
  for (const prompt of PROMPTS) answers.push((await server.ask(prompt, BYPASS)).bits);
  await server.stop();
});
afterAll(() => folder.remove());

let numFolders = 0;
const newFolder = () => join(folder.path, `kv-${++numFolders}`);

interface Round {
  readonly hits: number;
  readonly wrong: number;
  readonly reasons: readonly string[];
}

/** Asks for every prompt, some at a time. */
async function round(server: KvServer, width = 4): Promise<Round> {
  const left = PROMPTS.map((prompt, index) => ({ prompt, index }));
  let [hits, wrong] = [0, 0];
  const reasons = new Set<string>();
  const worker = async () => {
    for (let next = left.shift(); next; next = left.shift()) {
      const { bits, usage } = await server.ask(next.prompt);
      hits += usage.promptCacheHitTokens;
      reasons.add(usage.miss.reason);
      if (bits !== answers[next.index]) wrong += 1;
    }
  };
  await Promise.all(Array.from({ length: width }, worker));
  return { hits, wrong, reasons: [...reasons] };
}

/**
 * A record that is damaged is found out when it is read, rows before the point that stands on them; each is then written anew.
 * On a machine that is too busy to read in time the disk is also given a rest of some seconds, again and again.
 */
const HEALING_ROUNDS = 30;

/** Asks until everything hits, and nothing is wrong meanwhile. @returns hits of each round. */
async function heal(server: KvServer): Promise<number[]> {
  const hits: number[] = [];
  while (hits.length < HEALING_ROUNDS && hits.at(-1) !== HITS) {
    const one = await round(server);
    expect(one.wrong).toBe(0);
    hits.push(one.hits);
    await server.settled();
    if (one.reasons.includes('MISS_REASON_UNAVAILABLE')) await sleep(2000);
  }
  expect(hits.at(-1)).toBe(HITS);
  return hits;
}

const problemLines = (server: KvServer) =>
  server.log.filter(({ msg }: { msg: string }) => msg === 'the disk of the prompt cache has a problem');

/** Starts on a directory without faults: after some rounds everything hits from the disk again. */
async function expectWell(dir: string) {
  const server = await KvServer.start({ model, dir, flags: DISK_ONLY });
  try {
    const hits = await heal(server);
    const { quarantinedBlocks: quarantined } = await server.stats();
    return { startMs: Math.round(server.startMs), hits, quarantined };
  } finally {
    await server.stop();
  }
}

describe('--kv-fault', () => {
  // Harsh enough that each strikes several times in three rounds of eight prompts.
  const kinds: readonly [name: string, spec: string][] = [
    ['flip', 'flip=0.1'],
    ['torn', 'torn=0.4'],
    ['lost', 'lost=0.4'],
    ['misdirect', 'misdirect=0.4'],
    ['stale', 'stale=0.2'],
    ['reorder', 'reorder=0.3'],
    ['read-error', 'read-error=0.2'],
    ['write-error', 'write-error=0.2'],
    ['sync-error', 'sync-error=0.5'],
    ['short', 'short=0.3'],
    ['delay', 'delay-ms=30:0.3'],
    ['full-after', 'full-after=5000000'],
    ['hang', 'hang=0.004'], // a start makes some hundred requests, and most starts shall come through
    ['all at once', 'flip=0.03,torn=0.03,lost=0.03,misdirect=0.03,read-error=0.03,write-error=0.03,delay-ms=5:0.1'],
  ];
  /** A directory that cannot be written while it is opened is refused: then with other random numbers. */
  async function startOnFaults(dir: string, spec: string): Promise<{ server: KvServer; seed: number }> {
    for (let seed = SEED; ; seed++) {
      const server = new KvServer({ model, dir, flags: [...DISK_ONLY, '--kv-fault', `seed=${seed},${spec}`] });
      try {
        await server.ready;
        // The very first sync may be what hangs: then it serves without its disk, which is another test.
        const recovered = server.recovered().then(
          () => true,
          () => false,
        );
        if (await Promise.race([recovered, sleep(10_000).then(() => false)])) return { server, seed };
        await server.stop('SIGKILL');
      } catch (error) {
        if (seed > SEED + 20) throw error;
        expect(await server.exit).toBe(74);
        expect(server.errors.trim().split('\n')).toHaveLength(1);
      }
    }
  }

  test.each(kinds)('%s', async (name, spec) => {
    const dir = newFolder();
    // The directory is made on a disk that works: a start on one that does not is another test.
    // But for a full one, which is full when it wants to grow.
    if (name !== 'full-after') {
      const before = await KvServer.start({ model, dir, flags: DISK_ONLY });
      await before.ask(PROMPTS[0]);
      await before.stop();
    }
    const { server, seed } = await startOnFaults(dir, spec);
    const rounds: Round[] = [];
    for (let number = 0; number < 3; number++) {
      rounds.push(await round(server));
      await sleep(300);
    }
    const { quarantinedBlocks, diskProblem } = await server.stats();
    for (const { wrong } of rounds) expect(wrong).toBe(0);
    // It lives, and ends as it should.
    expect((await server.ask(PROMPTS[1], BYPASS)).bits).toBe(answers[1]);
    const stopBeganMs = performance.now();
    const exit = await server.stop();
    const stopMs = Math.round(performance.now() - stopBeganMs);
    expect(exit).toBe(0);
    const well = await expectWell(dir);
    const hits = rounds.map((one) => one.hits);
    const facts = { quarantinedBlocks, diskProblem, stopMs, well };
    console.log(JSON.stringify({ fault: name, spec, seed, hits, of: HITS, wrong: 0, ...facts }));
    // What comes back otherwise than it was written is noticed, and a full disk is told.
    if (['flip', 'torn', 'lost', 'misdirect', 'stale'].includes(name)) expect(quarantinedBlocks).toBeGreaterThan(0);
    if (name === 'full-after') expect(diskProblem).toMatch(/full/);
  });
});

describe('a directory that was damaged from outside', () => {
  const [own, other] = [newFolder(), newFolder()];
  beforeAll(async () => {
    for (const dir of [own, other]) {
      const server = await KvServer.start({ model, dir, flags: DISK_ONLY });
      await round(server);
      await server.stop();
    }
  });
  const random = randomFrom(SEED);
  const garbage = (bytes: number) => Buffer.from(Array.from({ length: bytes }, () => random(256)));
  /** Changes a file's bytes in place. */
  const edit = (change: (bytes: Buffer) => void) => (path: string) => {
    const bytes = readFileSync(path);
    if (bytes.length > 0) change(bytes);
    writeFileSync(path, bytes);
  };
  const PAGE = 4096;
  const damages: readonly [name: string, change: (path: string, file: string) => void][] = [
    [
      'flipped bits',
      edit((bytes) => {
        for (let count = 0; count < 300; count++) bytes[random(bytes.length)] ^= 1 << random(8);
      }),
    ],
    [
      'swapped pages',
      edit((bytes) => {
        const pages = Math.floor(bytes.length / PAGE);
        for (let count = 0; count < pages / 4; count++) {
          const [a, b] = [random(pages) * PAGE, random(pages) * PAGE];
          const kept = Buffer.from(bytes.subarray(a, a + PAGE));
          bytes.copyWithin(a, b, b + PAGE);
          kept.copy(bytes, b);
        }
      }),
    ],
    ['half of it', (path) => truncateSync(path, Math.floor(readFileSync(path).length / 2))],
    ['nothing left', (path) => truncateSync(path, 0)],
    ['deleted', (path) => rmSync(path)],
    ['garbage', (path) => writeFileSync(path, garbage(Math.max(100, Math.min(readFileSync(path).length, 100_000))))],
    ['of another directory', (path, file) => cpSync(join(other, file), path)],
  ];
  const few = ['deleted', 'garbage', 'of another directory'];
  const files: readonly [file: string, damages: readonly string[]][] = [
    ['data', damages.map(([name]) => name)],
    ['index', damages.map(([name]) => name)],
    ['superblock', damages.map(([name]) => name)],
    ['secret', ['flipped bits', 'half of it', ...few]],
    ['weights.json', ['half of it', ...few]],
    ['lock', few],
  ];
  test.each(files)('%s', async (file, names) => {
    expect(readdirSync(own)).toContain(file);
    const seen: object[] = [];
    const left = damages.filter(([name]) => names.includes(name));
    const worker = async () => {
      for (let next = left.shift(); next; next = left.shift()) {
        const [damage, change] = next;
        const dir = newFolder();
        cpSync(own, dir, { recursive: true });
        change(join(dir, file), file);
        const well = await expectWell(dir).catch((error: Error) => {
          throw new Error(`${file}, ${damage}: ${error.message}`, { cause: error });
        });
        seen.push({ damage, ...well });
        rmSync(dir, { recursive: true });
      }
    };
    await Promise.all([worker(), worker()]);
    console.log(JSON.stringify({ damaged: file, seed: SEED, of: HITS, wrong: 0, seen }));
  });
});

describe('a directory that cannot serve', () => {
  /** Exit code and the last words of a server that does not start. */
  async function refusalOf(dir: string, uid?: number): Promise<{ exit: number | string; errors: string }> {
    const server = new KvServer({ model, dir, flags: QUOTA, uid });
    const exit = await server.exit;
    return { exit, errors: server.errors };
  }

  test('a plain file: 74, in one line, and the file stays', async () => {
    const dir = newFolder();
    writeFileSync(dir, 'mine');
    const { exit, errors } = await refusalOf(dir);
    expect(exit).toBe(74);
    expect(errors.trim().split('\n')).toHaveLength(1);
    expect(errors).toContain(dir);
    expect(readFileSync(dir, 'utf8')).toBe('mine');
  });

  test("somebody else's files: 74, and they stay", async () => {
    const dir = newFolder();
    mkdirSync(dir);
    writeFileSync(join(dir, 'thesis.txt'), 'mine');
    const { exit, errors } = await refusalOf(dir);
    expect(exit).toBe(74);
    expect(errors).toContain(dir);
    expect(readdirSync(dir)).toEqual(['thesis.txt']);
  });

  test.skipIf(process.getuid?.() !== 0)('of which there are no rights: 74', async () => {
    const dir = newFolder();
    mkdirSync(dir, { mode: 0o700 });
    chmodSync(folder.path, 0o755);
    const { exit, errors } = await refusalOf(dir, 65_534);
    expect(exit).toBe(74);
    expect(errors).toContain(dir);
  });

  test('of a server that lives: 69 and its pid; after kill -9 it is free at once', async () => {
    const dir = newFolder();
    const owner = await KvServer.start({ model, dir, flags: DISK_ONLY });
    const { exit, errors } = await refusalOf(dir);
    expect(exit).toBe(69);
    expect(errors).toContain(`${owner.process.pid}`);
    expect(errors).toContain(dir);
    await owner.stop('SIGKILL');
    await expectWell(dir);
  });

  test('removed while it runs: answered, told in one line, and a restart makes a new one', async () => {
    const dir = newFolder();
    const server = await KvServer.start({ model, dir, flags: DISK_ONLY });
    await round(server);
    await server.settled();
    rmSync(dir, { recursive: true });
    await vi.waitFor(async () => expect((await server.stats()).diskProblem).toMatch(/was removed or replaced/), 10_000);
    for (let number = 0; number < 3; number++) expect(await round(server)).toMatchObject({ wrong: 0, hits: HITS });
    // What no start would find is not stored.
    expect((await server.ask(tokensOf(700, 901))).usage.cacheWriteTokens).toBe(0);
    expect(problemLines(server)).toHaveLength(1);
    expect(await server.stop()).toBe(0);
    await expectWell(dir);
  });

  test('moved away while it runs, and back: stored again', async () => {
    const dir = newFolder();
    const server = await KvServer.start({ model, dir, flags: DISK_ONLY });
    renameSync(dir, `${dir}-moved`);
    await vi.waitFor(async () => expect((await server.stats()).diskProblem).not.toBe(''), 10_000);
    renameSync(`${dir}-moved`, dir);
    await vi.waitFor(async () => expect((await server.stats()).diskProblem).toBe(''), 10_000);
    await heal(server);
    expect(await server.stop()).toBe(0);
    await expectWell(dir);
  });

  test('whose data is cut off while it runs: computed and stored again', async () => {
    const dir = newFolder();
    const server = await KvServer.start({ model, dir, flags: DISK_ONLY });
    await round(server);
    await server.settled();
    truncateSync(join(dir, 'data'), 0);
    await heal(server);
    expect(problemLines(server)).toEqual([]);
    expect((await server.stats()).quarantinedBlocks).toBeGreaterThan(0);
    expect(await server.stop()).toBe(0);
  });

  test('whose lock was removed: still of the server that lives', async () => {
    const dir = newFolder();
    const owner = await KvServer.start({ model, dir, flags: DISK_ONLY });
    rmSync(join(dir, 'lock'));
    const { exit, errors } = await refusalOf(dir);
    expect(exit).toBe(69);
    expect(errors).toContain(dir);
    await owner.stop('SIGKILL');
    await expectWell(dir);
  });
});

/** Whether this user may mount; where not, tests on file systems of their own are skipped. */
const mayMount = (() => {
  const at = join(folder.path, 'mount-probe');
  mkdirSync(at);
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', at]).status !== 0) return false;
  execFileSync('umount', [at]);
  return true;
})();

describe.skipIf(!mayMount)('a file system of its own (skipped where mount is not permitted)', () => {
  /** Runs `body` on a mounted tmpfs. */
  async function onTmpfs(size: string, body: (mount: string) => Promise<void>): Promise<void> {
    const mount = newFolder();
    mkdirSync(mount);
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', mount]);
    try {
      await body(mount);
    } finally {
      execFileSync('umount', ['-l', mount]);
    }
  }
  const fill = (path: string, mount: string) =>
    // To the last byte: dd ends with ENOSPC, and that is what is wanted.
    spawnSync('dd', ['if=/dev/zero', `of=${path}`, 'bs=1M'], { cwd: mount });
  const problemOf = async (server: KvServer): Promise<string> => (await server.stats()).diskProblem;

  test('that is full: served, told, and used again when there is room', async () => {
    await onTmpfs('420m', async (mount) => {
      const dir = join(mount, 'kv');
      // Small regions and many points, so that little is to be computed until another region is wanted.
      const flags = ['--kv-max-bytes', '64MiB', '--kv-memory', '0', '--kv-points', 'full'];
      const server = await KvServer.start({ model, dir, flags });
      await server.ask(PROMPTS[0]);
      await server.settled();
      const filler = join(mount, 'filler');
      fill(filler, mount);
      const filled = async () => {
        for (let index = 0; index < 60 && (await problemOf(server)) === ''; index++)
          await server.ask(tokensOf(2000, 900 + index), { maxTokens: 1 });
        return problemOf(server);
      };
      expect(await filled()).toMatch(/full/);
      const whileFull = await round(server);
      expect(whileFull.wrong).toBe(0);
      rmSync(filler);
      const beganMs = performance.now();
      await vi.waitFor(async () => {
        expect((await round(server)).wrong).toBe(0);
        expect(await problemOf(server)).toBe('');
      }, 30_000);
      const recoveryMs = Math.round(performance.now() - beganMs);
      await heal(server);
      expect(await server.stop()).toBe(0);
      console.log(JSON.stringify({ disk: 'full', recoveryMs, hitsWhileFull: whileFull.hits, wrong: 0 }));
    });
  });

  test.each([
    ['most of it', 700],
    ['all that the cache leaves alone', 60],
  ])('that others filled, %s, before a restart that names no quota: everything hits', async (_, leftMiB) => {
    await onTmpfs('3g', async (mount) => {
      const dir = join(mount, 'kv');
      const flags = ['--kv-memory', '0'];
      let server = await KvServer.start({ model, dir, flags });
      await heal(server);
      await server.stop('SIGKILL');
      const taken = statSync(join(dir, 'data')).blocks * 512;
      execFileSync('fallocate', ['-l', `${3 * 1024 - leftMiB - Math.ceil(taken / 2 ** 20)}MiB`, join(mount, 'others')]);
      server = await KvServer.start({ model, dir, flags });
      expect(await round(server)).toMatchObject({ hits: HITS, wrong: 0 });
      expect(await server.stop()).toBe(0);
    });
  });

  test('too small for a cache at all: 78 that names the least', async () => {
    await onTmpfs('24m', async (mount) => {
      const server = new KvServer({ model, dir: join(mount, 'kv'), flags: ['--kv-max-bytes', '10MiB'] });
      expect(await server.exit).toBe(78);
      expect(server.errors).toMatch(/minimum is \d+/);
    });
  });

  test('that is read-only at the start: 74; made writable again, what was stored hits', async () => {
    await onTmpfs('420m', async (mount) => {
      const dir = join(mount, 'kv');
      const server = await KvServer.start({ model, dir, flags: DISK_ONLY });
      await round(server);
      expect(await server.stop()).toBe(0);
      // The kernel lets go of a ring's files some moments after its process has ended.
      await vi.waitFor(() => execFileSync('mount', ['-o', 'remount,ro', mount], { stdio: 'pipe' }), 10_000);
      const refused = new KvServer({ model, dir, flags: QUOTA });
      expect(await refused.exit).toBe(74);
      expect(refused.errors).toContain(dir);
      execFileSync('mount', ['-o', 'remount,rw', mount]);
      const well = await expectWell(dir);
      expect(well.hits[0]).toBeGreaterThan(0);
    });
  });

  /** Runs `body` on an ext4 of its own; `again` mounts it anew, as after a repair. */
  async function onExt4(body: (mount: string, again: () => void) => Promise<void>): Promise<void> {
    const image = newFolder();
    const mount = newFolder();
    mkdirSync(mount);
    writeFileSync(image, '');
    truncateSync(image, 600 * 2 ** 20);
    execFileSync('mkfs.ext4', ['-q', '-F', image]);
    execFileSync('mount', ['-o', 'loop', image, mount]);
    try {
      await body(mount, () => {
        execFileSync('umount', [mount]);
        execFileSync('mount', ['-o', 'loop', image, mount]);
      });
    } finally {
      execFileSync('umount', ['-l', mount]);
    }
  }

  test('that freezes: answered by computing, and used again when it thaws', async () => {
    await onExt4(async (mount) => {
      let isFrozen = false;
      const thaw = () => {
        if (isFrozen) execFileSync('fsfreeze', ['-u', mount]);
        isFrozen = false;
      };
      const server = await KvServer.start({ model, dir: join(mount, 'kv'), flags: DISK_ONLY });
      try {
        await round(server);
        await server.settled();
        execFileSync('fsfreeze', ['-f', mount]);
        isFrozen = true;
        // What is read still comes; what is written hangs.
        for (let index = 0; index < 6; index++) await server.ask(tokensOf(700, 500 + index), { maxTokens: 1 });
        await sleep(2000);
        const whileFrozen = await round(server);
        expect(whileFrozen.wrong).toBe(0);
        thaw();
        const fresh = tokensOf(700, 999);
        const beganMs = performance.now();
        await vi.waitFor(async () => {
          await server.ask(fresh, { maxTokens: 1 });
          await server.settled();
          expect((await server.ask(fresh, { maxTokens: 1 })).usage.hitDiskTokens).toBe(640);
        }, 60_000);
        const recoveryMs = Math.round(performance.now() - beganMs);
        await heal(server);
        expect(await server.stop()).toBe(0);
        console.log(JSON.stringify({ disk: 'frozen', recoveryMs, hitsWhileFrozen: whileFrozen.hits, wrong: 0 }));
      } finally {
        thaw();
        await server.stop('SIGKILL');
      }
    });
  });

  /** Waits until events have told for two group commits that nothing more becomes durable. */
  async function durable(server: KvServer): Promise<void> {
    let [told, lastMs] = [0, performance.now()];
    const watching = server.watch(({ stored }: { stored?: { tier: string } }) => {
      if (stored?.tier !== 'CACHE_TIER_DISK') return;
      told += 1;
      lastMs = performance.now();
    });
    while (told === 0 || performance.now() - lastMs < 2000) await sleep(50);
    watching.cancel();
  }

  // From <linux/ext4.h>: EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH, as when the device is pulled out.
  const UNPLUG = `import fcntl,os,struct,sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack("I", 2))`;

  test.each<[string, boolean, (mount: string) => void]>([
    ['turns read-only after an error', true, (mount) => execFileSync('mount', ['-o', 'remount,abort', mount])],
    ['is gone from one moment to the next', false, (mount) => execFileSync('python3', ['-c', UNPLUG, mount])],
  ])('that %s while a server runs: answered, told, and found again after the next start', async (name, reads, fail) => {
    await onExt4(async (mount, again) => {
      const dir = join(mount, 'kv');
      const server = await KvServer.start({ model, dir, flags: DISK_ONLY });
      await round(server);
      await durable(server);
      fail(mount);
      const after = await round(server);
      expect(after.wrong).toBe(0);
      if (reads) expect(after.hits).toBeGreaterThan(0);
      // Something new wants to be written.
      await vi.waitFor(async () => {
        await server.ask(tokensOf(700, 500 + Math.round(performance.now())), { maxTokens: 1 });
        expect(await problemOf(server)).not.toBe('');
      }, 30_000);
      const diskProblem = await problemOf(server);
      expect((await round(server)).wrong).toBe(0);
      expect(await server.stop()).toBe(0);
      await vi.waitFor(() => again(), 10_000); // the ring's files are let go of some moments after the process's end
      const well = await expectWell(dir);
      expect(well.hits[0]).toBe(HITS);
      console.log(JSON.stringify({ disk: name, diskProblem, hits: after.hits, hitsAfterRestart: well.hits, wrong: 0 }));
    });
  });
});
