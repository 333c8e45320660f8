// Records are named after the content of the model file that the engine computes with, whatever is done to files and their times:
// other weights never hit, and never store under a name that is not theirs. Every answer is compared with one that bypasses.

import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { KvServer, makeModel, temporaryFolder, tokensOf } from './kv/harness.mjs';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const BYPASS = { mode: 'CACHE_MODE_BYPASS' };
const PROMPT = tokensOf(700, 5);
const folder = temporaryFolder('kv-model-file');
const models: string[] = [];
const answers: string[] = [];
let numFolders = 0;

beforeAll(async () => {
  for (const seed of [1, 2]) {
    models.push(makeModel(folder.path, 'mixed', seed));
    const server = await KvServer.start({ model: models.at(-1) });
    answers.push((await server.ask(PROMPT, BYPASS)).bits);
    await server.stop();
  }
  expect(answers[0]).not.toBe(answers[1]);
  expect(statSync(models[0] as string).size).toBe(statSync(models[1] as string).size);
});
afterAll(() => folder.remove());

/** The same file, with the content of one of the models; its times are those of every reproducible build. */
function put(path: string, which: number): void {
  copyFileSync(models[which] as string, path);
  utimesSync(path, 1, 1);
}

async function askedAtAStart(place: { model: string; dir: string }) {
  const server = await KvServer.start(place);
  const answer = await server.ask(PROMPT);
  await server.stop();
  return answer;
}

const newPlace = () => {
  numFolders += 1;
  return { model: join(folder.path, `served-${numFolders}.gguf`), dir: join(folder.path, `kv-${numFolders}`) };
};

test('other weights in a file of the same number, size and times do not hit', async () => {
  const place = newPlace();
  put(place.model, 0);
  const server = await KvServer.start(place);
  expect((await server.ask(PROMPT)).bits).toBe(answers[0]);
  await server.settled();
  await server.stop();
  put(place.model, 1);
  const { bits, usage } = await askedAtAStart(place);
  expect(usage.promptCacheHitTokens).toBe(0);
  expect(bits).toBe(answers[1]);
});

test('written over while it is served, and put back: what was computed meanwhile is not stored, and health says why', async () => {
  const place = newPlace();
  put(place.model, 0);
  const server = await KvServer.start(place);
  put(place.model, 1);
  await server.ask(PROMPT);
  expect((await server.stats()).diskProblem).toMatch(/the model file was written to/);
  expect(server.log.filter(({ msg }) => msg === 'the disk of the prompt cache has a problem')).toHaveLength(1);
  await server.stop();
  put(place.model, 0);
  const { bits, usage } = await askedAtAStart(place);
  expect(usage.promptCacheHitTokens).toBe(0);
  expect(bits).toBe(answers[0]);
});

test('another name and other rights while it is served change nothing', async () => {
  const place = newPlace();
  put(place.model, 0);
  const server = await KvServer.start(place);
  const moved = `${place.model}.moved`;
  renameSync(place.model, moved);
  chmodSync(moved, 0o440);
  await server.ask(PROMPT);
  await server.settled();
  const { diskProblem, tiers } = await server.stats();
  expect(diskProblem).toBe('');
  expect(tiers.find(({ tier }: { tier: string }) => tier === 'CACHE_TIER_DISK').blocks).toBe(5);
  await server.stop();
});

test('replaced by another file under its name while it is served: goes on with the one it has, and stores', async () => {
  const place = newPlace();
  put(place.model, 0);
  const server = await KvServer.start(place);
  const next = `${place.model}.next`;
  put(next, 1);
  renameSync(next, place.model);
  expect((await server.ask(PROMPT)).bits).toBe(answers[0]);
  await server.settled();
  await server.stop();
  expect((await askedAtAStart(place)).bits).toBe(answers[1]);
  put(next, 0);
  renameSync(next, place.model);
  const { bits, usage } = await askedAtAStart(place);
  expect(usage.hitDiskTokens).toBe(640);
  expect(bits).toBe(answers[0]);
});

test('scales are checked at the first start with a file, and not again when the directory knows it', async () => {
  const place = newPlace();
  const damaged = readFileSync(models[0] as string);
  damaged.fill(0xff, damaged.length - 9_000, damaged.length - 8_744); // within the last experts
  writeFileSync(place.model, damaged);
  const refused = new KvServer(place);
  expect(await refused.exit).toBe(66);
  expect(refused.errors).toMatch(/ffn_down_exps.*scale/);
  const { dev, ino, size, mtimeNs, ctimeNs } = statSync(place.model, { bigint: true });
  mkdirSync(place.dir, { recursive: true });
  const known = { [`${dev}:${ino}:${size}:${mtimeNs}:${ctimeNs}`]: 'a'.repeat(64) };
  writeFileSync(join(place.dir, 'weights.json'), JSON.stringify(known));
  const server = await KvServer.start(place);
  await server.stop();
});
