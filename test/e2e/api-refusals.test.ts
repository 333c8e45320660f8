// Every way a request is refused: code, ErrorInfo reason, field paths and the other details, decoded from the trailer as
// any client would. A request with several mistakes is told all of them.

import { connect } from 'node:http2';
import { Metadata } from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  CONTEXT,
  frame,
  type Harness,
  type Message,
  type Refusal,
  refusal,
  startHarness,
} from '../fakes/api-harness.js';
import { randomFrom } from '../unit/text/fixtures.js';

const INVALID_ARGUMENT = 3;

let harness: Harness;
let bare: Harness;
beforeAll(async () => {
  harness = await startHarness();
  bare = await startHarness({ withText: false });
});
afterAll(async () => {
  await harness.close();
  await bare.close();
});

const refused = (request: object, on = harness): Promise<Refusal> =>
  refusal(on.peer.unary('generation', 'generate', request));
const ids = { tokenIds: { ids: [1, 2, 3] } };
const user = (content = 'hello', more: object = {}) => ({ role: 'ROLE_USER', content, ...more });
const vocabSize = (): number => harness.model.vocabSize;

describe('INVALID_FIELD names the field', () => {
  const cases: readonly (readonly [string, string, () => object])[] = [
    ['no input at all', 'input', () => ({})],
    ['an empty text', 'text', () => ({ text: '' })],
    ['an empty text although a BOS is asked for', 'text', () => ({ text: '', textOptions: { addBos: true } })],
    ['a conversation without messages', 'chat', () => ({ chat: {} })],
    ['no token ids', 'token_ids', () => ({ tokenIds: {} })],
    [
      'a token id outside the vocabulary',
      'token_ids.ids[2]',
      () => ({ tokenIds: { ids: [0, vocabSize() - 1, vocabSize()] } }),
    ],
    ['a session of more than 256 characters', 'session_id', () => ({ ...ids, sessionId: '漢'.repeat(257) })],
    ['text options without text', 'text_options.add_bos', () => ({ ...ids, textOptions: { addBos: false } })],
    ['a message without a role', 'chat.messages[1].role', () => ({ chat: { messages: [user(), { content: 'x' }] } })],
    ['a role that nobody knows', 'chat.messages[0].role', () => ({ chat: { messages: [{ role: 77, content: 'x' }] } })],
    [
      'a role that does not exist yet',
      'chat.messages[0].role',
      () => ({ chat: { messages: [{ role: 6, content: 'x' }] } }),
    ],
    [
      'reasoning of a user',
      'chat.messages[0].reasoning',
      () => ({ chat: { messages: [user('x', { reasoning: 'y' })] } }),
    ],
    [
      'tool parameters that are not JSON',
      'chat.tools[0].parameters_json',
      () => ({ chat: { messages: [user()], tools: [{ name: 'f', parametersJson: '{' }] } }),
    ],
    ['an unknown effort', 'chat.reasoning_effort', () => ({ chat: { messages: [user()], reasoningEffort: 99 } })],
    [
      'an unknown tool mode',
      'chat.tool_choice.mode',
      () => ({ chat: { messages: [user()], toolChoice: { mode: 99 } } }),
    ],
    [
      'continuing a user',
      'chat.continue_final_message',
      () => ({ chat: { messages: [user()], continueFinalMessage: true } }),
    ],
    ['a negative temperature', 'sampling.temperature', () => ({ ...ids, sampling: { temperature: -0.5 } })],
    [
      'a temperature that is no number',
      'sampling.temperature',
      () => ({ ...ids, sampling: { temperature: Number.NaN } }),
    ],
    [
      'an infinite temperature',
      'sampling.temperature',
      () => ({ ...ids, sampling: { temperature: Number.POSITIVE_INFINITY } }),
    ],
    ['top_p of 0', 'sampling.top_p', () => ({ ...ids, sampling: { topP: 0 } })],
    ['top_p above 1', 'sampling.top_p', () => ({ ...ids, sampling: { topP: 1.5 } })],
    ['a negative min_p', 'sampling.min_p', () => ({ ...ids, sampling: { minP: -0.1 } })],
    ['min_p above 1', 'sampling.min_p', () => ({ ...ids, sampling: { minP: 2 } })],
    [
      'an infinite presence penalty',
      'sampling.presence_penalty',
      () => ({ ...ids, sampling: { presencePenalty: Number.NEGATIVE_INFINITY } }),
    ],
    [
      'a frequency penalty that is no number',
      'sampling.frequency_penalty',
      () => ({ ...ids, sampling: { frequencyPenalty: Number.NaN } }),
    ],
    [
      'a repetition penalty of 0',
      'sampling.repetition_penalty',
      () => ({ ...ids, sampling: { repetitionPenalty: 0 } }),
    ],
    ['a seed above 2^53 - 1', 'sampling.seed', () => ({ ...ids, sampling: { seed: 2 ** 53 } })],
    ['the largest seed that travels', 'sampling.seed', () => ({ ...ids, sampling: { seed: '18446744073709551615' } })],
    ['no choices', 'sampling.n', () => ({ ...ids, sampling: { n: 0 } })],
    ['too many choices', 'sampling.n', () => ({ ...ids, sampling: { n: 9 } })],
    [
      'a bias for a token that does not exist',
      'sampling.logit_bias[4294967295]',
      () => ({ ...ids, sampling: { logitBias: { 4294967295: 1 } } }),
    ],
    [
      'an infinite bias',
      'sampling.logit_bias[77]',
      () => ({ ...ids, sampling: { logitBias: { 76: 1, 77: Number.POSITIVE_INFINITY } } }),
    ],
    [
      'more than 1,024 biases',
      'sampling.logit_bias',
      () => ({ ...ids, sampling: { logitBias: Object.fromEntries(Array.from({ length: 1025 }, (_, id) => [id, 1])) } }),
    ],
    ['fewer tokens at most than at least', 'stop.min_tokens', () => ({ ...ids, stop: { maxTokens: 2, minTokens: 3 } })],
    ['an empty stop text', 'stop.sequences[1]', () => ({ ...ids, stop: { sequences: ['x', ''] } })],
    ['a stop text that is too long', 'stop.sequences[0]', () => ({ ...ids, stop: { sequences: ['x'.repeat(1025)] } })],
    [
      '17 stop texts',
      'stop.sequences',
      () => ({ ...ids, stop: { sequences: Array.from({ length: 17 }, (_, index) => `${index}`) } }),
    ],
    ['a stop token outside the vocabulary', 'stop.token_ids[0]', () => ({ ...ids, stop: { tokenIds: [vocabSize()] } })],
    ['21 alternatives', 'output.top_logprobs', () => ({ ...ids, output: { logprobs: true, topLogprobs: 21 } })],
    ['alternatives without log-probabilities', 'output.top_logprobs', () => ({ ...ids, output: { topLogprobs: 1 } })],
    [
      'a heartbeat below 20 ms',
      'stream.progress_interval',
      () => ({ ...ids, stream: { progressInterval: { nanos: 19e6 } } }),
    ],
    [
      'a negative heartbeat',
      'stream.progress_interval',
      () => ({ ...ids, stream: { progressInterval: { seconds: -1 } } }),
    ],
    ['a negative delay', 'stream.max_delay', () => ({ ...ids, stream: { maxDelay: { nanos: -1 } } })],
    ['a duration that is none', 'stream.max_delay', () => ({ ...ids, stream: { maxDelay: { nanos: 1_000_000_000 } } })],
    ['an id with a space', 'request_id', () => ({ ...ids, requestId: 'a b' })],
    ['an id of 129 characters', 'request_id', () => ({ ...ids, requestId: 'x'.repeat(129) })],
    ['an unknown priority', 'priority', () => ({ ...ids, priority: 17 })],
    ['an unknown cache mode', 'cache.mode', () => ({ ...ids, cache: { mode: 9 } })],
    ['a scope of 257 characters', 'cache.scope', () => ({ ...ids, cache: { scope: '🧑'.repeat(257) } })],
    ['a scope with a line break', 'cache.scope', () => ({ ...ids, cache: { scope: 'a\nb' } })],
    [
      'a boundary without a message',
      'cache.boundary_after_message',
      () => ({ ...ids, cache: { boundaryAfterMessage: [0] } }),
    ],
    [
      'a boundary behind a message that is not there',
      'cache.boundary_after_message[1]',
      () => ({ chat: { messages: [user(), user()] }, cache: { boundaryAfterMessage: [1, 2] } }),
    ],
    [
      '65 boundaries',
      'cache.boundary_after_message',
      () => ({ chat: { messages: [user()] }, cache: { boundaryAfterMessage: Array.from({ length: 65 }, () => 0) } }),
    ],
    [
      '17 labels',
      'labels',
      () => ({ ...ids, labels: Object.fromEntries(Array.from({ length: 17 }, (_, index) => [`k${index}`, 'v'])) }),
    ],
    [
      'a label key of 64 characters',
      `labels[${'k'.repeat(64)}]`,
      () => ({ ...ids, labels: { ['k'.repeat(64)]: 'v' } }),
    ],
    ['a label value of 257 characters', 'labels[k]', () => ({ ...ids, labels: { k: 'v'.repeat(257) } })],
  ];
  test.each(cases)('%s', async (_, field, request) => {
    const { code, reason, fields, message } = await refused(request());
    expect({ code, reason, fields }).toEqual({ code: INVALID_ARGUMENT, reason: 'INVALID_FIELD', fields: [field] });
    expect(message).toContain(field);
  });
});

describe('UNSUPPORTED_FIELD names the field', () => {
  const chat = (more: object, message = user()) => ({ chat: { messages: [message], ...more } });
  const cases: readonly (readonly [string, object])[] = [
    ['response_format.json_object', { ...ids, responseFormat: { jsonObject: true } }],
    ['response_format.json_schema', { ...ids, responseFormat: { jsonSchema: '{}' } }],
    ['response_format.regex', { ...ids, responseFormat: { regex: 'a' } }],
    ['response_format.grammar', { ...ids, responseFormat: { grammar: '' } }],
    ['cache.ttl', { ...ids, cache: { ttl: { seconds: 1 } } }],
    ['chat.tool_choice.mode', chat({ toolChoice: { mode: 'TOOL_MODE_REQUIRED' } })],
    ['chat.tool_choice.function_name', chat({ toolChoice: { functionName: 'f' } })],
    ['chat.tools[0].strict', chat({ tools: [{ name: 'f', strict: true }] })],
    ['chat.template_variables_json', chat({ templateVariablesJson: { k: '1' } })],
    ['chat.messages[0].name', chat({}, user('x', { name: 'Ann' }))],
  ];
  test.each(cases)('%s', async (field, request) => {
    const { code, reason, fields } = await refused(request);
    expect({ code, reason, fields }).toEqual({ code: INVALID_ARGUMENT, reason: 'UNSUPPORTED_FIELD', fields: [field] });
  });

  test('and a wrong value outweighs it, while both are listed', async () => {
    const { reason, fields } = await refused({ ...ids, cache: { ttl: { seconds: 1 } }, sampling: { topP: 2 } });
    expect(reason).toBe('INVALID_FIELD');
    expect(fields).toEqual(['sampling.top_p', 'cache.ttl']);
  });

  test('an empty response format asks for nothing and is fine', async () => {
    const answer = await harness.peer.unary('generation', 'generate', {
      ...ids,
      responseFormat: {},
      stop: { maxTokens: 1 },
    });
    expect(answer.usage.completionTokens).toBe(1);
  });
});

test('all bad fields are named at once', async () => {
  const { fields, message } = await refused({
    text: '',
    sampling: { temperature: -1, topP: Number.NaN, n: 100, logitBias: { 999999: 1 } },
    stop: { sequences: [''] },
    output: { topLogprobs: 3 },
    stream: { progressInterval: { nanos: 1 } },
    priority: 9,
    requestId: '!',
  });
  expect([...fields].sort()).toEqual(
    [
      ...[
        'output.top_logprobs',
        'priority',
        'request_id',
        'sampling.logit_bias[999999]',
        'sampling.n',
        'sampling.temperature',
      ],
      ...['sampling.top_p', 'stop.sequences[0]', 'stream.progress_interval', 'text'],
    ].sort(),
  );
  expect(message).toContain('9 more');
});

test('thousands of bad fields still fit into a trailer, which says how many there were', async () => {
  const { fields, metadata } = await refused({ tokenIds: { ids: Array.from({ length: 50_000 }, () => 4_000_000) } });
  expect(fields.length).toBeGreaterThan(10);
  expect(fields[0]).toBe('token_ids.ids[0]');
  expect(metadata.violations_total).toBe('50000');
});

describe('requests that could be right elsewhere', () => {
  test('an unknown model is NOT_FOUND, on every RPC that names one', async () => {
    const request = { model: 'nobody' };
    const calls = [
      harness.peer.unary('generation', 'generate', { ...ids, ...request }),
      harness.peer.unary('model', 'getModel', { name: 'nobody' }),
      harness.peer.unary('tokenizer', 'tokenize', { ...request, text: 'x' }),
      harness.peer.unary('tokenizer', 'detokenize', { ...request, tokenIds: [1] }),
    ];
    for (const call of calls) {
      const { code, reason, details } = await refusal(call);
      expect([code, reason]).toEqual([5, 'MODEL_NOT_FOUND']);
      expect(details['google.rpc.ResourceInfo']).toMatchObject({ resourceType: 'model', resourceName: 'nobody' });
    }
    const answer = await harness.peer.unary('generation', 'generate', {
      ...ids,
      model: 'other-name',
      stop: { maxTokens: 1 },
    });
    expect(answer.model).toBe('fake@7');
  });

  test('a prompt as long as the context is CONTEXT_LENGTH_EXCEEDED with both figures, whatever its kind', async () => {
    const words = 'word '.repeat(CONTEXT);
    for (const [field, request] of [
      ['token_ids', { tokenIds: { ids: Array.from({ length: CONTEXT }, () => 1) } }],
      ['text', { text: words }],
      ['chat', { chat: { messages: [user(words)] } }],
    ] as const) {
      const { code, reason, fields, metadata } = await refused(request);
      expect([code, reason, fields]).toEqual([INVALID_ARGUMENT, 'CONTEXT_LENGTH_EXCEEDED', [field]]);
      expect(metadata.context_length).toBe(String(CONTEXT));
      expect(Number(metadata.prompt_tokens)).toBeGreaterThanOrEqual(CONTEXT);
    }
  });

  test('10 MB of text are refused for their length, not for their size, and 65 MiB for their size', async () => {
    const { code, reason } = await refused({ text: 'lorem ipsum '.repeat(900_000) });
    expect([code, reason]).toEqual([INVALID_ARGUMENT, 'CONTEXT_LENGTH_EXCEEDED']);
    const huge = await refused({ text: 'x'.repeat(65 * 2 ** 20) });
    expect([huge.code, huge.reason]).toEqual([8, null]);
  });

  test('a model without a vocabulary refuses text, chat, stop texts, Tokenize and Detokenize by NO_TOKENIZER', async () => {
    const calls = [
      refused({ text: 'x' }, bare),
      refused({ chat: { messages: [user()] } }, bare),
      refused({ ...ids, stop: { sequences: ['x'] } }, bare),
      refusal(bare.peer.unary('tokenizer', 'tokenize', { text: 'x' })),
      refusal(bare.peer.unary('tokenizer', 'detokenize', { tokenIds: [1] })),
    ];
    for (const call of calls) expect(await call).toMatchObject({ code: 9, reason: 'NO_TOKENIZER' });
    expect((await refused({ text: '' }, bare)).fields).toEqual(['text']);
  });

  test('a request id is taken while its request runs, and free afterwards', async () => {
    harness.engine.holdBefore = 'prefill';
    const first = harness.peer.unary('generation', 'generate', { ...ids, requestId: 'twice', stop: { maxTokens: 1 } });
    while (harness.engine.numLive === 0) await new Promise((resolve) => setTimeout(resolve, 2));
    const { code, reason, details } = await refused({ ...ids, requestId: 'twice' });
    expect([code, reason]).toEqual([6, 'REQUEST_ID_IN_USE']);
    expect(details['google.rpc.ResourceInfo']).toMatchObject({ resourceName: 'twice' });
    harness.engine.release();
    await first;
    await harness.peer.unary('generation', 'generate', { ...ids, requestId: 'twice', stop: { maxTokens: 1 } });
  });

  test('a full queue says how long it is and when to come back', async () => {
    const narrow = await startHarness({ maxRunning: 1, maxWaiting: 1 });
    narrow.engine.holdBefore = 'admission';
    const running = [1, 2].map(() => narrow.peer.unary('generation', 'generate', ids).catch(() => {}));
    while (narrow.engine.numLive < 2) await new Promise((resolve) => setTimeout(resolve, 2));
    const { code, reason, metadata, details } = await refused(ids, narrow);
    expect([code, reason]).toEqual([8, 'QUEUE_FULL']);
    expect(metadata).toEqual({ queue_depth: '1', expected_wait_ms: '1500' });
    expect(details['google.rpc.RetryInfo'].retryDelay).toEqual({ seconds: 1, nanos: 500_000_000 });
    await narrow.close();
    await Promise.all(running);
  });
});

test('a failing engine is INTERNAL with the request id and without a word of the prompt', async () => {
  const { Failure } = await import('../../src/base/failures.js');
  harness.engine.failWith = new Failure('ENGINE_FAILURE', 'tensor blk.3.ffn_down has a NaN scale');
  const { code, reason, details, message } = await refused({ text: 'my secret', requestId: 'broken' });
  harness.engine.failWith = null;
  expect([code, reason, message]).toEqual([13, 'ENGINE_FAILURE', 'tensor blk.3.ffn_down has a NaN scale']);
  expect(details['google.rpc.RequestInfo'].requestId).toBe('broken');
});

describe('RPCs that are not built yet', () => {
  const cases: readonly (readonly [Parameters<Harness['peer']['unary']>[0], string])[] = [
    ...(['listUsageRecords', 'acknowledgeUsageRecords'] as const).map((method) => ['usage', method] as const),
    ...(
      [
        'getExpertStats',
        'updateExpertPlacement',
        'listRequests',
        'cancelRequest',
        'drain',
        'resume',
        'setLogLevel',
      ] as const
    ).map((method) => ['admin', method] as const),
  ];
  test.each(cases)('%s.%s answers UNIMPLEMENTED by name', async (service, method) => {
    const { code, reason, message, metadata } = await refusal(harness.peer.unary(service, method, {}));
    const name = `${method[0]?.toUpperCase()}${method.slice(1)}`;
    expect([code, reason]).toEqual([12, 'FEATURE_DISABLED']);
    expect(message).toContain(name);
    expect(metadata.feature).toMatch(new RegExp(`^nandu\\.v1\\.\\w+Service/${name}$`));
  });

  test.each([
    ['usage', 'watchUsageRecords'],
    ['admin', 'watchLoad'],
  ] as const)('%s.%s answers UNIMPLEMENTED by name, as a stream', async (service, method) => {
    const call = harness.peer.client(service)[method]?.({}) as Message;
    const { code, reason, message } = await refusal(
      new Promise((_, reject) => call.on('error', reject).on('data', () => {})),
    );
    expect([code, reason]).toEqual([12, 'FEATURE_DISABLED']);
    expect(message.toLowerCase()).toContain(method.toLowerCase());
  });
});

describe('bytes that are no request', () => {
  const post = async (path: string, body: Buffer): Promise<number> => {
    const session = connect(`http://${harness.address}`);
    const call = session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    call.end(body);
    call.resume();
    const status = new Promise<number>((resolve, reject) => {
      const look = (headers: Record<string, unknown>): void => {
        if (headers['grpc-status'] !== undefined) resolve(Number(headers['grpc-status']));
      };
      call.on('response', look).on('trailers', look).on('error', reject);
      call.on('close', () => reject(new Error('closed without a status')));
    });
    return status.finally(() => session.destroy());
  };
  const framed = (message: Buffer): Buffer => {
    const head = Buffer.alloc(5);
    head.writeUInt32BE(message.length, 1);
    return Buffer.concat([head, message]);
  };
  const methods = ['GenerationService/GenerateStream', 'GenerationService/Generate', 'TokenizerService/Tokenize'];

  test('end with a status and harm nobody, whatever they are', async () => {
    const random = randomFrom(7);
    const bytes = (length: number) => Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)));
    const good = frame('nandu.v1.GenerateRequest', { ...ids, stop: { maxTokens: 1 } }).subarray(5);
    for (let round = 0; round < 150; round++) {
      const damaged = Buffer.from(good);
      damaged[Math.floor(random() * damaged.length)] = Math.floor(random() * 256);
      const body = round % 2 === 0 ? bytes(1 + Math.floor(random() * 200)) : damaged;
      const status = await post(`/nandu.v1.${methods[round % methods.length]}`, framed(body));
      expect([0, 3, 5, 13]).toContain(status);
    }
    // A million groups, one in the other.
    expect(await post(`/nandu.v1.${methods[0]}`, framed(Buffer.alloc(1_000_000, 0x0b)))).toBe(13);
    expect(await post('/nandu.v1.GenerationService/Nothing', framed(Buffer.alloc(0)))).toBe(12);
    const answer = await harness.peer.unary('generation', 'generate', { ...ids, stop: { maxTokens: 1 } });
    expect(answer.usage.completionTokens).toBe(1);
    expect(harness.engine.numLive).toBe(0);
  });
});

test('the log line names the trace that the caller is in, and no other header of his', async () => {
  const metadata = new Metadata();
  metadata.set('traceparent', '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01');
  metadata.set('authorization', 'Bearer HUSH');
  const request = { ...ids, requestId: 'traced', stop: { maxTokens: 1 } };
  const client = harness.peer.client('generation') as Message;
  await new Promise<void>((resolve, reject) => {
    client.generate(request, metadata, (error: Error | null) => (error ? reject(error) : resolve()));
  });
  const line = harness.log.find(({ request_id }) => request_id === 'traced');
  expect(line).toMatchObject({ trace_id: '0af7651916cd43dd8448eb211c80319c', span_id: 'b7ad6b7169203331' });
  expect(JSON.stringify(harness.log)).not.toContain('HUSH');
});

test('no refusal puts prompt, session or label text on its log line', async () => {
  await refused({ text: 'TOPSECRET', sessionId: 'SESSION-NAME', sampling: { topP: 2 } });
  await harness.peer.unary('generation', 'generate', {
    text: 'TOPSECRET',
    sessionId: 'SESSION-NAME',
    stop: { maxTokens: 1 },
  });
  const lines = JSON.stringify(harness.log);
  expect(lines).not.toContain('TOPSECRET');
  expect(lines).not.toContain('SESSION-NAME');
  const last = harness.log.filter(({ rpc }) => rpc === 'nandu.v1.GenerationService/Generate').at(-1);
  expect(last).toMatchObject({
    ...{ level: 'info', code: 'OK', completion_tokens: 1, hit_tokens: 0 },
    session: expect.stringMatching(/^[0-9a-f]{16}$/),
  });
  for (const field of ['request_id', 'peer', 'duration_ms', 'queue_ms', 'ttft_ms', 'prompt_tokens', 'miss_tokens'])
    expect(last).toHaveProperty(field);
});
