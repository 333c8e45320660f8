// How calls end that do not end well: cancelled, overdue, abandoned, in the queue, in prefill and in decode; and what is
// left behind, which is nothing.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { type ClientHttp2Stream, connect } from 'node:http2';
import { fileURLToPath } from 'node:url';
import type { ClientReadableStream } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import {
  collect,
  frame,
  type Harness,
  type Message,
  Peer,
  refusalOf,
  startHarness,
  unframe,
} from '../fakes/api-harness.js';

const CANCELLED = 1;
const DEADLINE_EXCEEDED = 4;

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness({ maxRunning: 1, stepMs: 1 });
});
afterAll(() => harness.close());
beforeEach(() => {
  harness.engine.holdBefore = null;
  harness.engine.script = null;
  harness.log.length = 0;
});

const endless = { tokenIds: { ids: [1, 2, 3] }, stop: { maxTokens: 1_000_000, ignoreEos: true } };
const forRequest = (requestId: string) => ({ ...endless, requestId });

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
/** The line that the server wrote about a request. */
async function lineOf(requestId: string): Promise<Message> {
  const find = () => harness.log.find((line) => line.request_id === requestId);
  await until(() => find() !== undefined);
  return find();
}

/** Brings a request into a phase, in which it stays; the release of what had to be in the way. */
const PHASES: Readonly<
  Record<
    string,
    (
      request: object,
      options?: object,
    ) => Promise<{ call: ClientReadableStream<Message>; release: () => Promise<void> }>
  >
> = {
  async queue(request, options = {}) {
    const blocker = harness.peer.stream(endless);
    const ended = collect(blocker);
    await until(() => harness.engine.numLive === 1);
    const call = harness.peer.stream(request, options);
    await until(() => harness.engine.numLive === 2);
    const release = async () => {
      blocker.cancel();
      await ended;
    };
    return { call, release };
  },
  async prefill(request, options = {}) {
    harness.engine.holdBefore = 'prefill';
    const call = harness.peer.stream(request, options);
    await until(() => harness.engine.load().running === 1);
    return { call, release: async () => {} };
  },
  async decode(request, options = {}) {
    const call = harness.peer.stream(request, options);
    let numDeltas = 0;
    call.on('data', ({ event }: Message) => {
      if (event === 'delta') numDeltas += 1;
    });
    await until(() => numDeltas > 2);
    return { call, release: async () => {} };
  },
};

describe.each(Object.keys(PHASES))('in %s', (phase) => {
  const enter = PHASES[phase] as (typeof PHASES)[string];

  test('a client that cancels stops the work, and the log says CANCELLED', async () => {
    const { call, release } = await enter(forRequest(`hangup-${phase}`));
    const ended = collect(call);
    call.cancel();
    expect((await ended).error?.code).toBe(CANCELLED);
    expect(await lineOf(`hangup-${phase}`)).toMatchObject({ code: 'CANCELLED' });
    await release();
    await until(() => harness.engine.numLive === 0);
  });

  test('CancelGeneration ends it with CANCELLED_BY_CALLER and says how far it was', async () => {
    const requestId = `cancel-${phase}`;
    const { call, release } = await enter(forRequest(requestId));
    const ended = collect(call);
    const answer = await harness.peer.unary('generation', 'cancelGeneration', { requestId });
    expect(answer.found).toBe(true);
    if (phase === 'decode') expect(answer.completionTokens).toBeGreaterThan(0);
    else expect(answer.completionTokens).toBe(0);
    const { messages, error } = await ended;
    expect(messages.some(({ event }) => event === 'finished')).toBe(false);
    const { code, reason, metadata } = refusalOf(error as NonNullable<typeof error>);
    expect([code, reason, metadata]).toEqual([CANCELLED, 'CANCELLED_BY_CALLER', { request_id: requestId }]);
    expect(await harness.peer.unary('generation', 'cancelGeneration', { requestId })).toMatchObject({ found: false });
    await release();
    await until(() => harness.engine.numLive === 0);
  });

  test('a deadline that passes stops the work, and the log says DEADLINE_EXCEEDED', async () => {
    const { call, release } = await enter(forRequest(`late-${phase}`), { deadline: Date.now() + 2000 });
    expect((await collect(call)).error?.code).toBe(DEADLINE_EXCEEDED);
    expect(await lineOf(`late-${phase}`)).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    await release();
    await until(() => harness.engine.numLive === 0);
  });
});

describe('deadlines', () => {
  test('one that has passed on arrival is refused before any work', async () => {
    const before = harness.engine.numStarted;
    const call = harness.peer.stream(endless, { deadline: Date.now() - 1 });
    expect((await collect(call)).error?.code).toBe(DEADLINE_EXCEEDED);
    expect(harness.engine.numStarted).toBe(before);
  });

  test('one that passes on the way is refused by name, before any work', async () => {
    const before = harness.engine.numStarted;
    const session = connect(`http://${harness.address}`);
    const headers = {
      ':method': 'POST',
      ':path': '/nandu.v1.GenerationService/Generate',
      'content-type': 'application/grpc',
      'grpc-timeout': '1n',
    };
    const call = session.request(headers);
    call.end(frame('nandu.v1.GenerateRequest', endless));
    const [trailers] = (await once(call, 'response')) as [Record<string, string>];
    session.destroy();
    expect(trailers['grpc-status']).toBe(String(DEADLINE_EXCEEDED));
    expect(harness.engine.numStarted).toBe(before);
  });

  test('one in five weeks is no deadline in the past', async () => {
    const call = harness.peer.stream(
      { ...endless, stop: { maxTokens: 2 } },
      { deadline: Date.now() + 35 * 24 * 3600e3 },
    );
    expect((await collect(call)).error).toBeNull();
  });
});

test('cancelling what never was is OK and finds nothing', async () => {
  const answer = await harness.peer.unary('generation', 'cancelGeneration', { requestId: 'never-was' });
  expect(answer).toMatchObject({ found: false, completionTokens: 0 });
});

test('a client that is killed leaves no sequence behind', async () => {
  const script = fileURLToPath(new URL('../fakes/killed-client.mjs', import.meta.url));
  const client = spawn(process.execPath, [script, harness.address], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(client.stdout, 'data');
  expect(harness.engine.numLive).toBe(1);
  client.kill('SIGKILL');
  await until(() => harness.engine.numLive === 0);
  await until(() => harness.log.some(({ code }) => code === 'CANCELLED'));
});

describe('one connection', () => {
  test('survives 5,000 cancelled and overdue calls, and the call that runs on it does not notice', async () => {
    const wide = await startHarness({ maxRunning: 5000, maxWaiting: 5000, stepMs: 5 });
    const peer = new Peer(wide.address);
    try {
      const live = collect(peer.stream({ ...endless, requestId: 'live', stop: { maxTokens: 1500, ignoreEos: true } }));
      await until(() => wide.engine.numLive === 1);
      const openFiles = () => readdirSync('/proc/self/fd').length;
      const filesBefore = openFiles();
      const codes = new Map<number, number>();
      for (let round = 0; round < 50; round++) {
        const calls = Array.from({ length: 100 }, (_, index) => {
          const isOverdue = index % 2 === 0;
          const call = peer.stream(endless, isOverdue ? { deadline: Date.now() + 15 } : {});
          const ended = collect(call);
          if (!isOverdue) setTimeout(() => call.cancel(), 5);
          return ended;
        });
        for (const { error } of await Promise.all(calls))
          codes.set(error?.code ?? 0, (codes.get(error?.code ?? 0) ?? 0) + 1);
      }
      expect([...codes.keys()].sort()).toEqual([CANCELLED, DEADLINE_EXCEEDED]);
      expect((codes.get(CANCELLED) ?? 0) + (codes.get(DEADLINE_EXCEEDED) ?? 0)).toBe(5000);
      const { messages, error } = await live;
      expect(error).toBeNull();
      expect(messages.at(-1).finished.usage.completionTokens).toBe(1500);
      await until(() => wide.engine.numLive === 0);
      await until(() => openFiles() <= filesBefore + 4);
      expect(await peer.unary('generation', 'cancelGeneration', { requestId: 'live' })).toMatchObject({ found: false });
    } finally {
      peer.close();
      await wide.close();
    }
  });
});

describe('a reader that does not read', () => {
  test('makes the stream gather instead of growing, and gets every token when it reads again', async () => {
    const fast = await startHarness({ contextTokens: 1_000_000 });
    // Not grpc-js, which reads on when nobody wants to: bare HTTP/2 stops when its window is full.
    const session = connect(`http://${fast.address}`);
    try {
      const maxTokens = 50_000;
      const headers = {
        ':method': 'POST',
        ':path': '/nandu.v1.GenerationService/GenerateStream',
        'content-type': 'application/grpc',
        te: 'trailers',
      };
      const call = session.request(headers);
      const request = {
        ...endless,
        stop: { maxTokens, ignoreEos: true },
        stream: { progressInterval: { nanos: 20e6 } },
      };
      call.end(frame('nandu.v1.GenerateRequest', request));
      await until(() => fast.engine.numStarted === 1);
      await until(() => fast.engine.numLive === 0);
      const chunks: Buffer[] = [];
      call.on('data', (chunk: Buffer) => chunks.push(chunk));
      const [trailers] = (await once(call, 'trailers')) as [Record<string, string>];
      expect(trailers['grpc-status']).toBe('0');
      const messages = unframe('nandu.v1.GenerateStreamResponse', Buffer.concat(chunks));
      const pieces = messages.filter(({ event }) => event === 'delta').map(({ delta }) => delta.tokenCount as number);
      expect(pieces.reduce((sum, count) => sum + count, 0)).toBe(maxTokens);
      // A window of messages got out; then the rest became one.
      expect(pieces.length).toBeLessThan(maxTokens / 4);
      expect(Math.max(...pieces)).toBeGreaterThan(maxTokens / 2);
      expect(messages.at(-1).event).toBe('finished');
    } finally {
      session.close();
      await fast.close();
    }
  });

  test('gets all of it from a server that drains meanwhile', async () => {
    const own = await startHarness({ contextTokens: 1_000_000 });
    const session = connect(`http://${own.address}`);
    try {
      const call = session.request({
        ':method': 'POST',
        ':path': '/nandu.v1.GenerationService/GenerateStream',
        'content-type': 'application/grpc',
      });
      call.end(
        frame('nandu.v1.GenerateRequest', {
          ...endless,
          stop: { maxTokens: 40_000, ignoreEos: true },
          output: { tokenIds: true },
        }),
      );
      await until(() => own.engine.numStarted === 1);
      await until(() => own.engine.numLive === 0);
      const drained = own.server.drain(60_000);
      await new Promise((resolve) => setTimeout(resolve, 600));
      const chunks: Buffer[] = [];
      call.on('data', (chunk: Buffer) => chunks.push(chunk));
      const [trailers] = (await once(call, 'trailers')) as [Record<string, string>];
      expect(trailers['grpc-status']).toBe('0');
      const messages = unframe('nandu.v1.GenerateStreamResponse', Buffer.concat(chunks));
      expect(messages.at(-1).finished.usage.completionTokens).toBe(40_000);
      expect(messages.flatMap(({ delta }) => delta?.tokenIds ?? []).length).toBe(40_000);
      session.close();
      await drained;
    } finally {
      session.destroy();
      await own.close();
    }
  });

  test('gets a long answer to its end from a server that drains, however slowly, and ends no drain by reading nothing', async () => {
    const own = await startHarness({ contextTokens: 1_000_000 });
    const sessions = [connect(`http://${own.address}`), connect(`http://${own.address}`)];
    try {
      const [slow, idle] = sessions.map((session) => {
        session.on('error', () => {}); // of the one that is cut off
        const call = session.request({
          ':method': 'POST',
          ':path': '/nandu.v1.GenerationService/Generate',
          'content-type': 'application/grpc',
        });
        call.on('error', () => {});
        const output = { logprobs: true, topLogprobs: 20 };
        const request = { ...endless, stop: { maxTokens: 2000, ignoreEos: true }, output };
        call.end(frame('nandu.v1.GenerateRequest', request));
        return call;
      }) as [ClientHttp2Stream, ClientHttp2Stream];
      await until(() => own.engine.numStarted === 2);
      await until(() => own.engine.numLive === 0);
      const drained = own.server.drain(60_000);
      const chunks: Buffer[] = [];
      const isOver = once(slow, 'end');
      slow.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        slow.pause();
        setTimeout(() => slow.resume(), 60);
      });
      await isOver;
      const [answer] = unframe('nandu.v1.GenerateResponse', Buffer.concat(chunks));
      expect(answer.choices[0].logprobs.length).toBe(2000);
      expect(chunks.length).toBeGreaterThan(10); // ten pauses outlast what a drain waits for anyone
      await drained;
      expect(idle.readableEnded).toBe(false);
    } finally {
      for (const session of sessions) session.destroy();
      await own.close();
    }
  });

  test('does not keep its deadline from ending the work', async () => {
    const own = await startHarness({ contextTokens: 1_000_000 });
    const session = connect(`http://${own.address}`);
    try {
      const headers = {
        ':method': 'POST',
        ':path': '/nandu.v1.GenerationService/GenerateStream',
        'content-type': 'application/grpc',
        'grpc-timeout': '2S',
      };
      session
        .request(headers)
        .on('error', () => {})
        .end(frame('nandu.v1.GenerateRequest', endless));
      await until(() => own.engine.numStarted === 1);
      await until(() => own.engine.numLive === 0);
      await until(() => own.log.some(({ code }) => code === 'DEADLINE_EXCEEDED'));
    } finally {
      session.destroy();
      await own.close();
    }
  });
});

describe('a server that drains', () => {
  test('refuses new requests, lets running ones end, and then closes', async () => {
    const own = await startHarness();
    own.engine.holdBefore = 'prefill';
    const running = collect(own.peer.stream({ ...endless, stop: { maxTokens: 3 } }));
    await until(() => own.engine.numLive === 1);
    const drained = own.server.drain(60_000);
    const { code, reason, details } = refusalOf(
      await own.peer.unary('generation', 'generate', endless).catch((error) => error),
    );
    expect([code, reason]).toEqual([14, 'DRAINING']);
    expect(details['google.rpc.RetryInfo'].retryDelay.seconds).toBeGreaterThan(0);
    expect(await own.peer.unary('health', 'check', {})).toEqual({ status: 'NOT_SERVING' });
    expect((await own.peer.unary('admin', 'getLoad')).load.draining).toBe(true);
    expect((await own.peer.unary('model', 'getModel')).model.state).toBe('MODEL_STATE_DRAINING');
    own.engine.release();
    const { messages, error } = await running;
    expect(error).toBeNull();
    expect(messages.at(-1).event).toBe('finished');
    await drained;
    expect(
      (await own.peer.unary('health', 'check', {}, { deadline: Date.now() + 500 }).catch((failure) => failure)).code,
    ).toBeGreaterThan(0);
    await own.close();
  });

  test('lets a request go on whose prompt is still being tokenised', async () => {
    const own = await startHarness();
    const gate = { open: () => {}, isReached: false };
    own.text.encodeText = async () => {
      gate.isReached = true;
      await new Promise<void>((resolve) => {
        gate.open = resolve;
      });
      return Uint32Array.of(1, 2);
    };
    const answer = own.peer.unary('generation', 'generate', { text: 'x', stop: { maxTokens: 1 } });
    await until(() => gate.isReached);
    const drained = own.server.drain(60_000);
    gate.open();
    expect((await answer).usage.completionTokens).toBe(1);
    await drained;
    await own.close();
  });

  test('ends what is left after the timeout with UNAVAILABLE, and is done at once when idle', async () => {
    const own = await startHarness();
    const running = collect(own.peer.stream(endless));
    await until(() => own.engine.numLive === 1);
    await own.server.drain(50);
    const { error } = await running;
    expect(refusalOf(error as NonNullable<typeof error>)).toMatchObject({ code: 14, reason: 'DRAINING' });
    await until(() => own.engine.numLive === 0);
    await own.close();

    const idle = await startHarness();
    const watch = idle.peer.client('health').watch?.({}) as Message;
    watch.on('error', () => {});
    expect(await once(watch, 'data')).toEqual([{ status: 'SERVING' }]);
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
    }, 20_000);
    await idle.server.drain(30_000);
    clearTimeout(timer);
    expect(timedOut).toBe(false);
    await idle.close();
  });
});

describe('a server that loads', () => {
  test('says MODEL_LOADING with its progress, shows its state, and turns SERVING for watchers', async () => {
    const own = await startHarness({ isReady: false });
    try {
      own.server.setLoading(0.25);
      for (const [service, method] of [
        ['generation', 'generate'],
        ['tokenizer', 'tokenize'],
        ['tokenizer', 'detokenize'],
      ] as const) {
        const { code, reason, metadata, details } = refusalOf(
          await own.peer.unary(service, method, { text: 'x' }).catch((error) => error),
        );
        expect([code, reason, metadata]).toEqual([14, 'MODEL_LOADING', { progress: '0.25' }]);
        expect(details['google.rpc.RetryInfo'].retryDelay).toEqual({ seconds: 1, nanos: 0 });
      }
      const { model } = await own.peer.unary('model', 'getModel');
      expect(model).toMatchObject({ name: 'fake', state: 'MODEL_STATE_LOADING', loadProgress: 0.25 });
      expect((await own.peer.unary('admin', 'getServerInfo')).nodeVersion).toBe(process.version);
      expect(await own.peer.unary('health', 'check', { service: 'live' })).toEqual({ status: 'SERVING' });
      const watch = own.peer.client('health').watch?.({ service: 'nandu.v1.GenerationService' }) as Message;
      watch.on('error', () => {});
      const seen: string[] = [];
      watch.on('data', ({ status }: Message) => seen.push(status));
      await until(() => seen.length === 1);
      own.server.setModel(own.model);
      await until(() => seen.length === 2);
      expect(seen).toEqual(['NOT_SERVING', 'SERVING']);
      for (const service of ['', 'nandu.v1.TokenizerService', 'nandu.v1.AdminService']) {
        expect(await own.peer.unary('health', 'check', { service })).toEqual({ status: 'SERVING' });
      }
      const unknown = await own.peer.unary('health', 'check', { service: 'nobody' }).catch((error) => error);
      expect(unknown.code).toBe(5);
      watch.cancel();
    } finally {
      await own.close();
    }
  });

  test('shows why a model could not be loaded', async () => {
    const own = await startHarness({ isReady: false });
    own.server.setFailed('no such file');
    const { model } = await own.peer.unary('model', 'listModels').then(({ models }) => ({ model: models[0] }));
    expect(model).toMatchObject({ state: 'MODEL_STATE_FAILED', stateMessage: 'no such file' });
    await own.close();
  });
});
