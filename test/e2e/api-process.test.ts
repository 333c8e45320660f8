// nandu serve as an operator meets it: a process, a real model, signals and exit codes. Needs the build (npm test makes it).

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { collect, type Message, Peer, refusalOf } from '../fakes/api-harness.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const bin = join(root, 'bin/nandu.js');
const folder = mkdtempSync(join(tmpdir(), 'nandu-serve-'));
const tiny = join(folder, 'tiny.gguf');
const golden = join(folder, 'golden.gguf');
const children: ChildProcess[] = [];
const peers: Peer[] = [];

beforeAll(() => {
  for (const [path, preset] of [
    [tiny, 'tiny'],
    [golden, 'golden'],
  ] as const) {
    const { status, stderr } = spawnSync(process.execPath, [bin, 'synth', path, '--preset', preset], {
      encoding: 'utf8',
    });
    expect(stderr).not.toContain('nandu:');
    expect(status).toBe(0);
  }
});
afterEach(() => {
  for (const peer of peers.splice(0)) peer.close();
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Served {
  readonly child: ChildProcess;
  readonly peer: Peer;
  readonly port: number;
  readonly log: Message[];
  readonly stderr: () => string;
  readonly exited: Promise<number | null>;
}

function start(args: readonly string[], environment: NodeJS.ProcessEnv = {}): Omit<Served, 'peer' | 'port'> {
  const env = { ...process.env, NANDU_KV_DIR: 'none', ...environment };
  const child = spawn(process.execPath, [bin, 'serve', ...args], { env });
  children.push(child);
  const log: Message[] = [];
  let stderr = '';
  createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => log.push(JSON.parse(line)));
  child.stderr?.on('data', (chunk) => {
    stderr += String(chunk);
  });
  const exited = once(child, 'close').then(([code]) => code as number | null);
  return { child, log, stderr: () => stderr, exited };
}

async function serve(args: readonly string[], environment: NodeJS.ProcessEnv = {}): Promise<Served> {
  const started = start(['--listen', '127.0.0.1:0', ...args], environment);
  const said = (msg: string) => started.log.find((line) => line.msg === msg);
  await until(() => said('serving') !== undefined || started.child.exitCode !== null, started.stderr);
  const { port } = said('listening');
  const peer = new Peer(`127.0.0.1:${port}`);
  peers.push(peer);
  return { ...started, peer, port };
}

async function until(condition: () => boolean, what: () => string = () => ''): Promise<void> {
  for (const begin = Date.now(); !condition(); ) {
    if (Date.now() - begin > 60_000) throw new Error(`waited in vain: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const endless = { tokenIds: { ids: [1, 2, 3] }, stop: { maxTokens: 100_000, ignoreEos: true } };

describe('a real model', () => {
  test('answers text and chat, the same for the same seed, in a stream and whole', async () => {
    const { peer } = await serve(['--model', tiny]);
    const request = {
      chat: { messages: [{ role: 'ROLE_USER', content: 'Hi' }] },
      sampling: { seed: 5 },
      stop: { maxTokens: 12 },
      output: { tokenIds: true },
    };
    const { messages, error } = await collect(peer.stream(request));
    expect(error).toBeNull();
    const streamed = messages.flatMap(({ delta }) => delta?.tokenIds ?? []);
    const { choices, usage } = await peer.unary('generation', 'generate', request);
    expect(choices[0].tokenIds).toEqual(streamed);
    expect(choices[0].text).toBe(messages.map(({ delta }) => delta?.text ?? '').join(''));
    expect(usage).toEqual(messages.at(-1).finished.usage);
    const { model } = await peer.unary('model', 'getModel');
    expect(model).toMatchObject({ name: 'tiny', architecture: 'deepseek4', state: 'MODEL_STATE_READY' });
    expect(model.features).toContain('chat');
    expect((await peer.unary('admin', 'getServerInfo')).settings['max-running']).toBe('16');
  });

  test('without a vocabulary serves token ids, and greedy answers do not depend on the company', async () => {
    const { peer } = await serve(['--model', golden, '--numerics', 'f32']);
    const request = (id: number) => ({
      tokenIds: { ids: [id, 2, 3] },
      sampling: { temperature: 0 },
      stop: { maxTokens: 20, ignoreEos: true },
      output: { tokenIds: true },
    });
    const alone = (await peer.unary('generation', 'generate', request(1))).choices[0].tokenIds;
    expect(alone.length).toBe(20);
    const together = await Promise.all([1, 4, 5, 6, 1].map((id) => peer.unary('generation', 'generate', request(id))));
    expect(together[0].choices[0].tokenIds).toEqual(alone);
    expect(together[4].choices[0].tokenIds).toEqual(alone);
    const refused = refusalOf(await peer.unary('generation', 'generate', { text: 'x' }).catch((error) => error));
    expect(refused.reason).toBe('NO_TOKENIZER');
  });

  test('keeps nothing of 300 cancelled requests', async () => {
    const { peer } = await serve(['--model', tiny]);
    for (let round = 0; round < 10; round++) {
      const calls = Array.from({ length: 30 }, () => peer.stream(endless));
      const ended = calls.map((call) => collect(call));
      setTimeout(() => calls.map((call) => call.cancel()), 20);
      await Promise.all(ended);
    }
    for (;;) {
      const { load } = await peer.unary('admin', 'getLoad');
      if (load.runningRequests === 0 && load.waitingRequests === 0) break;
    }
    expect(
      (await peer.unary('generation', 'generate', { ...endless, stop: { maxTokens: 3 } })).usage.completionTokens,
    ).toBe(3);
  });
});

test('a log that cannot be written stops neither answers nor the end', async () => {
  const full = openSync('/dev/full', 'w');
  const port = 20_000 + (process.pid % 20_000);
  const env = { ...process.env, NANDU_KV_DIR: 'none' };
  const listen = ['--listen', `127.0.0.1:${port}`, '--log-level', 'debug'];
  const child = spawn(process.execPath, [bin, 'serve', '--model', tiny, ...listen], {
    env,
    stdio: ['ignore', full, 'pipe'],
  });
  closeSync(full);
  children.push(child);
  const exited = once(child, 'exit');
  const peer = new Peer(`127.0.0.1:${port}`);
  peers.push(peer);
  const ask = () => peer.unary('generation', 'generate', { ...endless, stop: { maxTokens: 3 } });
  let answered = 0;
  for (let tries = 0; answered < 5 && tries < 600; tries++) {
    await ask().then(
      () => {
        answered += 1;
      },
      () => new Promise((resolve) => setTimeout(resolve, 100)),
    );
  }
  expect(answered).toBe(5);
  child.kill('SIGTERM');
  expect((await exited)[0]).toBe(0);
});

describe('signals', () => {
  test.each(['SIGTERM', 'SIGINT'] as const)('%s on an idle server ends it at once with 0', async (signal) => {
    const { child, exited, log } = await serve(['--model', tiny, '--drain-timeout', '60s']);
    child.kill(signal);
    expect(await exited).toBe(0);
    expect(log.map(({ msg }) => msg)).toEqual(expect.arrayContaining(['draining', 'drained']));
  });

  test('SIGTERM lets what runs go on until the drain timeout, refuses the rest, and ends with 0', async () => {
    const { child, exited, peer } = await serve(['--model', tiny, '--drain-timeout', '700ms']);
    const short = collect(peer.stream({ ...endless, stop: { maxTokens: 5, ignoreEos: true } }));
    const long = peer.stream(endless);
    const ended = collect(long);
    await once(long, 'data');
    child.kill('SIGTERM');
    await until(() => true);
    const refused = await until2(() => peer.unary('generation', 'generate', endless).then(() => null, refusalOf));
    expect(refused).toMatchObject({ code: 14, reason: 'DRAINING' });
    expect((await short).error).toBeNull();
    const { error } = await ended;
    expect(refusalOf(error as NonNullable<typeof error>)).toMatchObject({ code: 14, reason: 'DRAINING' });
    expect(await exited).toBe(0);
  });

  test.each([
    ['SIGTERM', 143],
    ['SIGINT', 130],
  ] as const)('a second %s does not wait: %d', async (signal, code) => {
    const { child, exited, peer, log } = await serve(['--model', tiny, '--drain-timeout', '60s']);
    const call = peer.stream(endless);
    call.on('error', () => {});
    await once(call, 'data');
    child.kill(signal);
    await until(() => log.some(({ msg }) => msg === 'draining'));
    child.kill(signal);
    expect(await exited).toBe(code);
  });
});

/** The first answer that is a refusal: a signal takes a moment to arrive. */
async function until2<T>(attempt: () => Promise<T | null>): Promise<T> {
  for (;;) {
    const result = await attempt();
    if (result !== null) return result;
  }
}

describe('exit codes', () => {
  const oneLine = (text: string): string => {
    expect(text.trim().split('\n').length).toBe(1);
    return text.trim();
  };

  test('64 for a wrong flag, 78 for a wrong variable, each naming it', async () => {
    const flag = start(['--max-running', 'many']);
    expect(await flag.exited).toBe(64);
    expect(oneLine(flag.stderr())).toContain('--max-running');
    const variable = start([], { NANDU_DRAIN_TIMEOUT: 'soon' });
    expect(await variable.exited).toBe(78);
    expect(oneLine(variable.stderr())).toContain('NANDU_DRAIN_TIMEOUT');
  });

  test('66 for a model file that is missing or malformed', async () => {
    const broken = join(folder, 'broken.gguf');
    writeFileSync(broken, 'GGUF, but not really');
    for (const path of [join(folder, 'none.gguf'), broken]) {
      const { exited, stderr } = start(['--listen', '127.0.0.1:0', '--model', path]);
      expect([await exited, oneLine(stderr())]).toEqual([66, expect.stringMatching(/^nandu: .*gguf/)]);
    }
  });

  test('69 for a port that another process has, and the sentence names the flag', async () => {
    const { port } = await serve(['--model', tiny]);
    const second = start(['--model', tiny, '--listen', `127.0.0.1:${port}`]);
    expect(await second.exited).toBe(69);
    expect(oneLine(second.stderr())).toMatch(new RegExp(`127\\.0\\.0\\.1:${port} is in use.*--listen`));
  });
});
