// The RPCs that generate nothing: models, tokenizer, server information, load; and reflection, by which clients find all.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { credentials, loadPackageDefinition } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { clientDefinition, type Harness, type Message, refusal, startHarness } from '../fakes/api-harness.js';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness();
});
afterAll(() => harness.close());

const lookUp = (
  service: Parameters<Harness['peer']['unary']>[0],
  method: string,
  request: object = {},
): Promise<Message> => harness.peer.unary(service, method, request);
const encode = (text: string, parseSpecial = false) => [...harness.text.tokenizer.encode(text, { parseSpecial })];

describe('models', () => {
  test('are listed with what a client needs to know, and found by any of their names', async () => {
    const { models, nextPageToken } = await lookUp('model', 'listModels');
    expect(nextPageToken).toBe('');
    expect(models.length).toBe(1);
    expect(models[0]).toMatchObject({
      ...{ name: 'fake', aliases: ['default', 'other-name'], version: '7', architecture: 'deepseek4' },
      ...{ state: 'MODEL_STATE_READY', loadProgress: 1, contextLength: 4096, maxOutputTokens: 4095, vocabSize: 4096 },
      ...{ weightBytes: 123_456_789_012, fingerprint: 'f00d', kvBlockTokens: 128, kvBytesPerToken: 1234.5 },
      ...{ quantization: { mxfp4: 0.75, f16: 0.25 }, features: ['logprobs', 'text', 'chat', 'tools', 'reasoning'] },
      defaultSampling: { temperature: 1, topP: 1, topK: 0, n: 1 },
    });
    for (const name of ['', 'fake', 'other-name'])
      expect((await lookUp('model', 'getModel', { name })).model).toEqual(models[0]);
  });

  test('take no page token that the server did not give', async () => {
    expect((await refusal(lookUp('model', 'listModels', { pageToken: 'x' }))).fields).toEqual(['page_token']);
  });
});

describe('the tokenizer', () => {
  test('counts, lists, takes apart and renders', async () => {
    const text = 'héllo <think>';
    const { bosId } = harness.text.tokenizer.vocabulary;
    expect(
      await lookUp('tokenizer', 'tokenize', { text, countOnly: true, textOptions: { addBos: false } }),
    ).toMatchObject({
      ...{ tokenCount: encode(text).length, tokenIds: [], pieces: [], renderedText: '', contextLength: 4096 },
    });
    const whole = await lookUp('tokenizer', 'tokenize', {
      text,
      pieces: true,
      rendered: true,
      textOptions: { addBos: true, parseSpecial: true },
    });
    expect(whole.tokenIds).toEqual([bosId, ...encode(text, true)]);
    expect(Buffer.concat(whole.pieces.slice(1)).toString()).toBe(text);
    expect(whole.renderedText).toContain(text);
  });

  test('renders a conversation exactly as Generate computes it', async () => {
    const chat = {
      messages: [
        { role: 'ROLE_SYSTEM', content: 'Be brief.' },
        { role: 'ROLE_USER', content: 'Hi <｜User｜>' },
      ],
    };
    const { tokenIds, renderedText } = await lookUp('tokenizer', 'tokenize', { chat, rendered: true });
    await harness.peer.unary('generation', 'generate', { chat, stop: { maxTokens: 0 } });
    expect(tokenIds).toEqual([...(harness.engine.lastRequest?.promptTokens ?? [])]);
    expect(renderedText).toContain('Be brief.');
  });

  test('takes texts beyond the context, in its own thread', async () => {
    const { tokenCount } = await lookUp('tokenizer', 'tokenize', {
      text: 'lorem ipsum '.repeat(20_000),
      countOnly: true,
    });
    expect(tokenCount).toBeGreaterThan(20_000);
  });

  test('lists no more tokens than an answer may have', async () => {
    const text = 'lorem ipsum '.repeat(600_000);
    expect((await lookUp('tokenizer', 'tokenize', { text, countOnly: true })).tokenCount).toBeGreaterThan(2 ** 20);
    expect((await refusal(lookUp('tokenizer', 'tokenize', { text }))).fields).toEqual(['text']);
    const tokenIds = new Array(2 ** 20 + 1).fill(1);
    expect((await refusal(lookUp('tokenizer', 'detokenize', { tokenIds }))).fields).toEqual(['token_ids']);
  });

  test('turns tokens back into text, and hides specials in text and bytes alike', async () => {
    const tokenIds = [...encode('a'), ...encode('<think>', true), ...encode('é')];
    expect(await lookUp('tokenizer', 'detokenize', { tokenIds })).toMatchObject({ text: 'aé', raw: Buffer.from('aé') });
    expect(await lookUp('tokenizer', 'detokenize', { tokenIds, showSpecial: true })).toMatchObject({
      text: 'a<think>é',
    });
    const half = encode('🧑').slice(0, 1);
    const { text, raw } = await lookUp('tokenizer', 'detokenize', { tokenIds: half });
    expect(text).toBe('\ufffd');
    expect(raw.equals(Buffer.from(harness.text.tokenizer.tokenBytes(half[0] as number)))).toBe(true);
    expect(await lookUp('tokenizer', 'detokenize', {})).toMatchObject({ text: '' });
  });

  test('names what is wrong with a request', async () => {
    expect((await refusal(lookUp('tokenizer', 'tokenize', {}))).fields).toEqual(['input']);
    expect((await refusal(lookUp('tokenizer', 'tokenize', { text: '' }))).fields).toEqual(['text']);
    expect((await refusal(lookUp('tokenizer', 'tokenize', { chat: {} }))).fields).toEqual(['chat']);
    expect((await refusal(lookUp('tokenizer', 'detokenize', { tokenIds: [1, 4096, 2, 9999] }))).fields).toEqual([
      'token_ids[1]',
      'token_ids[3]',
    ]);
  });
});

describe('administration', () => {
  test('says what this server is', async () => {
    const info = await lookUp('admin', 'getServerInfo');
    expect(info).toMatchObject({
      ...{ version: '0.1.0', revision: 'abc', nodeVersion: process.version, instanceId: '1234', cpuModel: 'Test CPU' },
      ...{ computeThreads: 2, cpuFeatures: ['avx2'], ioBackend: 'mmap', settings: { listen: '127.0.0.1:0' } },
    });
    expect(info.startTime.seconds).toBeLessThanOrEqual(Date.now() / 1000);
  });

  test('says how busy it is', async () => {
    harness.engine.holdBefore = 'admission';
    const call = harness.peer.unary('generation', 'generate', { tokenIds: { ids: [1, 2, 3] }, stop: { maxTokens: 1 } });
    while (harness.engine.numLive === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    const { load } = await lookUp('admin', 'getLoad');
    expect(load).toMatchObject({
      ...{
        runningRequests: 0,
        waitingRequests: 1,
        maxRunningRequests: 16,
        maxWaitingRequests: 256,
        waitingMissTokens: 3,
      },
      draining: false,
    });
    expect(load.residentBytes).toBeGreaterThan(10e6);
    expect(load.eventLoopDelay.seconds).toBe(0);
    harness.engine.cache.statsOverrides = { hitTokens: 30, missTokens: 90 };
    expect((await lookUp('admin', 'getLoad')).load.cacheHitRatio).toBe(0.25);
    harness.engine.cache.statsOverrides = {};
    harness.engine.release();
    await call;
  });
});

const require = createRequire(import.meta.url);
const reflectionProto = join(dirname(require.resolve('@grpc/reflection/package.json')), 'build/proto');
const descriptors = require('protobufjs/ext/descriptor') as Message;

describe.each(['v1', 'v1alpha'])('reflection %s', (version) => {
  let client: Message;
  beforeAll(() => {
    const file = `grpc/reflection/${version}/reflection.proto`;
    const root = loadPackageDefinition(loadSync(file, { includeDirs: [reflectionProto], oneofs: true })) as Message;
    client = new root.grpc.reflection[version].ServerReflection(harness.address, credentials.createInsecure());
  });
  afterAll(() => client.close());

  async function ask(request: object): Promise<Message> {
    const call = client.serverReflectionInfo();
    call.write(request);
    call.end();
    for await (const response of call) return response;
  }
  const filesOf = ({ fileDescriptorResponse }: Message): Message[] =>
    fileDescriptorResponse.fileDescriptorProto.map((bytes: Buffer) => descriptors.FileDescriptorProto.decode(bytes));

  test('lists every service, health included', async () => {
    const { listServicesResponse } = await ask({ listServices: '*' });
    const names = listServicesResponse.service.map(({ name }: Message) => name).sort();
    const services = Object.keys(clientDefinition).filter(
      (name) => name.endsWith('Service') && name.startsWith('nandu.v1.'),
    );
    expect(names).toEqual(['grpc.health.v1.Health', ...services].sort());
  });

  test('gives the committed descriptors with everything that they need, presence and map names included', async () => {
    const committed = descriptors.FileDescriptorSet.decode(
      readFileSync(fileURLToPath(new URL('../../proto/descriptors.binpb', import.meta.url))),
    );
    const files = filesOf(await ask({ fileContainingSymbol: 'nandu.v1.GenerationService' }));
    const names = new Set(files.map(({ name }) => name));
    for (const file of files) {
      const original = committed.file.find(({ name }: Message) => name === file.name);
      expect(descriptors.FileDescriptorProto.encode(file).finish()).toEqual(
        descriptors.FileDescriptorProto.encode(original).finish(),
      );
      for (const dependency of file.dependency)
        expect(names, `${file.name} imports ${dependency}`).toContain(dependency);
    }
    const common = files.find(({ name }) => name === 'nandu/v1/common.proto') as Message;
    const sampling = common.messageType.find(({ name }: Message) => name === 'SamplingOptions');
    expect(sampling.field.find(({ name }: Message) => name === 'top_k').proto3Optional).toBe(true);
    expect(sampling.nestedType.map(({ name }: Message) => name)).toEqual(['LogitBiasEntry']);
  });

  test('finds files by name, and errors by name what is not there', async () => {
    expect(filesOf(await ask({ fileByFilename: 'google/rpc/error_details.proto' }))[0].package).toBe('google.rpc');
    expect((await ask({ fileContainingSymbol: 'nandu.v1.Nothing' })).errorResponse.errorCode).toBe(5);
  });
});

test('reflection can be turned off', async () => {
  const closed = await startHarness({ settings: { reflection: false } });
  const root = loadPackageDefinition(
    loadSync('grpc/reflection/v1/reflection.proto', { includeDirs: [reflectionProto] }),
  ) as Message;
  const client = new root.grpc.reflection.v1.ServerReflection(closed.address, credentials.createInsecure());
  const call = client.serverReflectionInfo();
  const failed = new Promise<Message>((resolve) => call.on('error', resolve));
  call.on('data', () => {});
  call.write({ listServices: '*' });
  expect((await failed).code).toBe(12);
  client.close();
  await closed.close();
});
