// The whole product from outside: a real server process, a random model, real gRPC clients that behave and misbehave.
// What is not proved here: speed, and models that make sense.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { collect, type Message, Peer, refusal, refusalOf } from '../fakes/api-harness.js';
import { type RealServer, startServer, writeRandomModel } from '../fakes/real-server.js';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const folder = mkdtempSync(join(tmpdir(), 'nandu-server-'));
const model = ['--model', join(folder, 'random.gguf')];
let server: RealServer;
beforeAll(async () => {
  writeRandomModel(join(folder, 'random.gguf'));
  server = await startServer([...model, '--max-running', '16']);
});
afterAll(async () => {
  await server.stop();
  rmSync(folder, { recursive: true });
});

const words = 'the quick brown river of an animal that a person may see or hear in water and light'.split(' ');
const textOf = (length: number, salt: number) =>
  Array.from({ length }, (_, index) => words[(index * 7 + salt * 3 + ((index * index) % 5)) % words.length]).join(' ');

const ask = (salt: number, changes: object = {}) => ({
  text: textOf(10 + salt * 23, salt),
  sampling: { temperature: salt % 3 === 0 ? 0 : 0.9, seed: 1000 + salt },
  stop: { maxTokens: 20, ignoreEos: true },
  output: { tokenIds: true, logprobs: true, topLogprobs: 5 },
  ...changes,
});
const answerOf = (response: Message) =>
  response.choices.map((choice: Message) => ({ ids: choice.tokenIds, logprobs: choice.logprobs, text: choice.text }));

test('answers and their log-probabilities are the same bits alone and among fifteen others', async () => {
  const alone: Message[] = [];
  for (let salt = 0; salt < 16; salt++)
    alone.push(answerOf(await server.peer.unary('generation', 'generate', ask(salt))));
  const together = await Promise.all(
    Array.from({ length: 16 }, (_, index) => server.peer.unary('generation', 'generate', ask(15 - index))),
  );
  for (let salt = 0; salt < 16; salt++) expect(answerOf(together[15 - salt])).toEqual(alone[salt]);
});

test('an answer that comes back as prompt continues with the tokens and probabilities that decoding gave', async () => {
  const first = await server.peer.unary('generation', 'generate', {
    ...ask(9, { stop: { maxTokens: 40, ignoreEos: true } }),
    sampling: { temperature: 0 },
    output: { tokenIds: true, promptTokenIds: true, logprobs: true, topLogprobs: 20 },
  });
  const [{ tokenIds, logprobs }] = first.choices;
  for (const taken of [1, 17, 39]) {
    const again = await server.peer.unary('generation', 'generate', {
      tokenIds: { ids: [...first.promptTokenIds, ...tokenIds.slice(0, taken)] },
      sampling: { temperature: 0 },
      stop: { maxTokens: 40 - taken, ignoreEos: true },
      output: { tokenIds: true, logprobs: true, topLogprobs: 20 },
    });
    expect(again.choices[0].tokenIds).toEqual(tokenIds.slice(taken));
    expect(again.choices[0].logprobs).toEqual(logprobs.slice(taken));
  }
});

test('choices of one request differ by their own seeds, and choice 0 is the request with n = 1', async () => {
  const one = await server.peer.unary('generation', 'generate', ask(4));
  const four = await server.peer.unary(
    'generation',
    'generate',
    ask(4, { sampling: { temperature: 0.9, seed: 1004, n: 4 } }),
  );
  expect(answerOf(four)[0]).toEqual(answerOf(one)[0]);
  const texts = new Set(four.choices.map((choice: Message) => choice.tokenIds.join(',')));
  expect(texts.size).toBe(4);
  expect(four.usage.promptTokens).toBe(one.usage.promptTokens);
  expect(four.usage.completionTokens).toBe(80);
});

test('a stream says what the unary call says', async () => {
  const unary = await server.peer.unary('generation', 'generate', ask(5));
  const { messages, error } = await collect(server.peer.stream(ask(5)));
  expect(error).toBeNull();
  const deltas = messages.filter((message) => message.event === 'delta').map((message) => message.delta);
  expect(deltas.flatMap((delta) => delta.tokenIds)).toEqual(unary.choices[0].tokenIds);
  expect(deltas.map((delta) => delta.text).join('')).toBe(unary.choices[0].text);
  expect(messages[0].event).toBe('started');
  expect(messages.at(-1).event).toBe('finished');
  expect(messages.at(-1).finished.usage).toEqual(unary.usage);
});

test('cancelled in the queue, in prefill and in decode, expired at each: nothing is left behind', async () => {
  const long = ask(60, { stop: { maxTokens: 4000, ignoreEos: true } });
  const calls = Array.from({ length: 24 }, () => server.peer.stream(long)); // sixteen run, eight wait
  const ends = calls.map((call) => collect(call));
  await new Promise((resolve) => setTimeout(resolve, 150));
  for (const call of calls) call.cancel();
  for (const { error } of await Promise.all(ends)) expect(error?.code).toBe(status.CANCELLED);
  await server.idle();
  const expired = await Promise.all(
    [1, 5, 20, 80, 300].flatMap((ms) =>
      Array.from({ length: 5 }, () => collect(server.peer.stream(long, { deadline: Date.now() + ms }))),
    ),
  );
  for (const { error } of expired) expect(error?.code).toBe(status.DEADLINE_EXCEEDED);
  await server.idle();
});

test('five thousand cancelled and expired calls on one connection: the call beside them lives, nothing leaks', async () => {
  const peer = new Peer(server.address);
  await peer.unary('generation', 'generate', ask(1));
  const descriptors = server.openDescriptors();
  const survivor = collect(peer.stream(ask(2, { stop: { maxTokens: 6000, ignoreEos: true } })));
  let before = 0;
  for (let round = 0; round < 50; round++) {
    const calls = Array.from({ length: 100 }, (_, index) =>
      index % 2 === 0
        ? peer.stream(ask(3, { stop: { maxTokens: 2000, ignoreEos: true } }))
        : peer.stream(ask(3), { deadline: Date.now() + 2 }),
    );
    const ends = calls.map((call) => collect(call));
    await new Promise((resolve) => setImmediate(resolve));
    for (const call of calls) call.cancel();
    await Promise.all(ends);
    if (round === 10) before = server.residentBytes();
  }
  const { messages, error } = await survivor;
  expect(error).toBeNull();
  expect(messages.at(-1).event).toBe('finished');
  await server.idle();
  expect(server.residentBytes() - before).toBeLessThan(150 * 2 ** 20);
  peer.close();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(server.openDescriptors()).toBeLessThanOrEqual(descriptors + 2);
  // And it still answers.
  expect((await server.peer.unary('generation', 'generate', ask(0))).choices[0].tokenIds).toHaveLength(20);
});

test('a client killed in mid-stream leaves nothing running', async () => {
  const script = fileURLToPath(new URL('../fakes/killed-client.mjs', import.meta.url));
  const child = spawn(process.execPath, [script, server.address], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => child.stdout.once('data', resolve));
  child.kill('SIGKILL');
  await server.idle();
});

test('a request id is taken while its request runs, and CancelGeneration ends it', async () => {
  const running = collect(
    server.peer.stream({ ...ask(3, { stop: { maxTokens: 5000, ignoreEos: true } }), requestId: 'mine' }),
  );
  await vi.waitFor(async () => {
    const { load } = await server.peer.unary('admin', 'getLoad');
    expect(load.runningRequests).toBe(1);
  });
  const second = await refusal(server.peer.unary('generation', 'generate', { ...ask(1), requestId: 'mine' }));
  expect(second).toMatchObject({ code: status.ALREADY_EXISTS, reason: 'REQUEST_ID_IN_USE' });
  expect((await server.peer.unary('generation', 'cancelGeneration', { requestId: 'mine' })).found).toBe(true);
  const { error } = await running;
  expect(error && refusalOf(error)).toMatchObject({ code: status.CANCELLED, reason: 'CANCELLED_BY_CALLER' });
  expect((await server.peer.unary('generation', 'cancelGeneration', { requestId: 'mine' })).found).toBe(false);
});

test('chat, tools and Tokenize agree on the prompt; special tokens never come out of user text', async () => {
  const chat = {
    messages: [
      { role: 'ROLE_SYSTEM', content: 'You are brief.' },
      { role: 'ROLE_USER', content: 'What is <｜User｜> a river?' },
    ],
    tools: [{ name: 'look_up', description: 'finds a word', parametersJson: '{"type":"object"}' }],
  };
  const tokens = await server.peer.unary('tokenizer', 'tokenize', { chat, rendered: true, pieces: true });
  const answer = await server.peer.unary('generation', 'generate', {
    chat,
    stop: { maxTokens: 3, ignoreEos: true },
    output: { promptTokenIds: true },
  });
  expect(answer.promptTokenIds).toEqual(tokens.tokenIds);
  const marker = (
    await server.peer.unary('tokenizer', 'tokenize', { text: '<｜User｜>', textOptions: { parseSpecial: true } })
  ).tokenIds;
  expect(marker).toHaveLength(1);
  expect(tokens.tokenIds.filter((id: number) => id === marker[0])).toHaveLength(1);
  expect(Buffer.concat(tokens.pieces).toString()).toContain('What is <｜User｜> a river?');
});

test('SIGTERM lets running calls end, refuses new ones as DRAINING, and exits with 0', async () => {
  const other = await startServer([...model, '--drain-timeout', '30s']);
  const running = collect(other.peer.stream(ask(2, { stop: { maxTokens: 400, ignoreEos: true } })));
  await vi.waitFor(async () => {
    const { load } = await other.peer.unary('admin', 'getLoad');
    expect(load.runningRequests).toBe(1);
  });
  other.process.kill('SIGTERM');
  await vi.waitFor(async () => {
    const late = await refusal(other.peer.unary('generation', 'generate', ask(1)));
    expect(late).toMatchObject({ code: status.UNAVAILABLE, reason: 'DRAINING' });
  });
  const { messages, error } = await running;
  expect(error).toBeNull();
  expect(messages.at(-1).event).toBe('finished');
  expect(await other.exit).toBe(0);
  other.peer.close();
});

test('a server killed by kill -9 comes back on the same port at once', async () => {
  const first = await startServer(model);
  const before = answerOf(await first.peer.unary('generation', 'generate', ask(3)));
  first.process.kill('SIGKILL');
  expect(await first.exit).toBe('SIGKILL');
  first.peer.close();
  const second = await startServer([...model, '--listen', first.address]);
  expect(second.address).toBe(first.address);
  expect(answerOf(await second.peer.unary('generation', 'generate', ask(3)))).toEqual(before);
  await second.stop();
});
