// Generate and GenerateStream through a real client: order, counts, text, pacing, choices.

import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { collect, type Harness, type Message, startHarness } from '../fakes/api-harness.js';

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness();
});
afterAll(() => harness.close());
beforeEach(() => {
  harness.engine.script = null;
  harness.engine.holdBefore = null;
});

const ids = (...values: number[]) => ({ tokenIds: { ids: values } });
const chat = (content: string, more: object = {}) => ({
  chat: { messages: [{ role: 'ROLE_USER', content }], ...more },
});
const kinds = (messages: Message[]) => messages.map(({ event }) => event);
const deltas = (messages: Message[]): Message[] =>
  messages.filter(({ event }) => event === 'delta').map(({ delta }) => delta);
const encode = (text: string, parseSpecial = false) => [...harness.text.tokenizer.encode(text, { parseSpecial })];
const joined = (pieces: Message[], field: 'text' | 'reasoning') => pieces.map((piece) => piece[field]).join('');

async function stream(request: object): Promise<Message[]> {
  const { messages, error } = await collect(harness.peer.stream(request));
  expect(error).toBeNull();
  return messages;
}
const generate = (request: object): Promise<Message> => harness.peer.unary('generation', 'generate', request);

describe('the stream', () => {
  test('is started, then progress and deltas, then finished, and the counts add up', async () => {
    const messages = await stream({ ...ids(5, 6, 7), stop: { maxTokens: 4 } });
    const order = kinds(messages);
    expect(order[0]).toBe('started');
    expect(order.at(-1)).toBe('finished');
    expect(order.filter((kind) => kind === 'started' || kind === 'finished').length).toBe(2);
    const { usage } = messages.at(-1).finished;
    expect(deltas(messages).map(({ tokenCount }) => tokenCount)).toEqual([1, 1, 1, 1]);
    expect(usage).toMatchObject({
      ...{ promptTokens: 3, promptCacheHitTokens: 0, promptCacheMissTokens: 3, completionTokens: 4, totalTokens: 7 },
      ...{ hitLiveTokens: 0, hitMemoryTokens: 0, hitDiskTokens: 0, cacheWriteTokens: 0, prefixId: '' },
      miss: { reason: 'MISS_REASON_SHORT', tokenPosition: 0 },
    });
  });

  test('says in started who answers, with which seed, and that the cache holds nothing', async () => {
    const before = Date.now();
    const messages = await stream({
      ...ids(5, 6),
      requestId: 'mine:1',
      sampling: { seed: 42 },
      stop: { maxTokens: 1 },
      output: { promptTokenIds: true },
    });
    const { started } = messages[0];
    expect(started).toMatchObject({
      ...{
        requestId: 'mine:1',
        model: 'fake@7',
        fingerprint: 'f00d',
        seed: 42,
        promptTokenIds: [5, 6],
        queuePosition: 0,
      },
      cachePlan: {
        promptTokens: 2,
        hitLiveTokens: 0,
        hitMemoryTokens: 0,
        hitDiskTokens: 0,
        missTokens: 2,
        miss: { reason: 'MISS_REASON_SHORT' },
      },
    });
    expect(started.createTime.seconds * 1000 + started.createTime.nanos / 1e6).toBeGreaterThanOrEqual(before - 1);
  });

  test('makes an id and a seed when the request has none, and the same seed gives the same tokens', async () => {
    const first = await stream({ ...ids(9), stop: { maxTokens: 8, ignoreEos: true }, output: { tokenIds: true } });
    const { requestId, seed } = first[0].started;
    expect(requestId).toMatch(/^[A-Za-z0-9._:-]{1,128}$/);
    expect(Number.isSafeInteger(seed)).toBe(true);
    const again = await stream({
      ...ids(9),
      sampling: { seed },
      stop: { maxTokens: 8, ignoreEos: true },
      output: { tokenIds: true },
    });
    const tokens = (messages: Message[]) => deltas(messages).flatMap(({ tokenIds }) => tokenIds);
    expect(tokens(again)).toEqual(tokens(first));
    expect(again[0].started.requestId).not.toBe(requestId);
  });

  test('shows every change of phase, and the queue that stands before it', async () => {
    const narrow = await startHarness({ maxRunning: 1 });
    try {
      narrow.engine.holdBefore = 'prefill';
      const first = collect(narrow.peer.stream({ ...ids(1), stop: { maxTokens: 1 } }));
      await until(() => narrow.engine.numLive === 1);
      const second = collect(narrow.peer.stream({ ...ids(2), stop: { maxTokens: 1 } }));
      await until(() => narrow.engine.numLive === 2);
      narrow.engine.release();
      await first;
      const { messages } = await second;
      expect(messages[0].started.queuePosition).toBe(1);
      const phases = messages
        .filter(({ event }: Message) => event === 'progress')
        .map(({ progress }: Message) => progress);
      expect(phases.map(({ phase }: Message) => phase)).toEqual(['PHASE_QUEUED', 'PHASE_PREFILL', 'PHASE_DECODE']);
      expect(phases[0].queuePosition).toBe(1);
      expect(phases[2]).toMatchObject({ promptTokensDone: 1, promptTokensTotal: 1 });
    } finally {
      await narrow.close();
    }
  });

  test('beats while nothing else is sent, in the queue and in prefill, and 0 turns that off', async () => {
    const slow = await startHarness({ chunk: 100, stepMs: 15 });
    try {
      const prompt = Array.from({ length: 1000 }, (_, index) => index + 1);
      const beating = collect(
        slow.peer.stream({ ...ids(...prompt), stop: { maxTokens: 1 }, stream: { progressInterval: { nanos: 20e6 } } }),
      );
      const silent = collect(
        slow.peer.stream({ ...ids(...prompt), stop: { maxTokens: 1 }, stream: { progressInterval: {} } }),
      );
      const done = (await beating).messages
        .filter(({ event, progress }: Message) => event === 'progress' && progress.phase === 'PHASE_PREFILL')
        .map(({ progress }: Message) => progress.promptTokensDone);
      expect(done.length).toBeGreaterThan(3);
      expect(done).toEqual([...done].sort((a, b) => a - b));
      expect(new Set(done).size).toBeGreaterThan(2);
      const phases = (await silent).messages.filter(({ event }: Message) => event === 'progress');
      expect(phases.map(({ progress }: Message) => progress.phase)).toEqual(['PHASE_PREFILL', 'PHASE_DECODE']);
    } finally {
      await slow.close();
    }
  });

  test('estimates the time to the first token once a speed is known', async () => {
    harness.engine.prefillTokensPerSecond = 1000;
    const messages = await stream({ ...ids(1, 2, 3, 4, 5), stop: { maxTokens: 1 } });
    harness.engine.prefillTokensPerSecond = 0;
    expect(messages[0].started.estimatedTimeToFirstToken).toEqual({ seconds: 0, nanos: 5e6 });
    expect(messages[0].started.cachePlan.estimatedDuration).toEqual({ seconds: 0, nanos: 5e6 });
    expect((await stream({ ...ids(1), stop: { maxTokens: 1 } }))[0].started.estimatedTimeToFirstToken).toBeNull();
  });
});

describe('text', () => {
  test('leaves in whole characters only, while every token is counted at once', async () => {
    const text = 'naïve 漢字 🧑‍🚀 done';
    harness.engine.script = encode(text);
    const pieces = deltas(await stream({ ...chat('go'), output: { tokenIds: true } }));
    expect(joined(pieces, 'text')).toBe(text);
    for (const { text: piece } of pieces) expect(piece).not.toContain('\ufffd');
    expect(pieces.some(({ text: piece, tokenCount }) => piece === '' && tokenCount > 0)).toBe(true);
    expect(pieces.flatMap(({ tokenIds }) => tokenIds)).toEqual([...encode(text), harness.model.eosId]);
    expect(pieces.at(-1)).toMatchObject({
      finishReason: 'FINISH_REASON_STOP',
      stopMatch: { eosTokenId: harness.model.eosId },
    });
  });

  test('is cut before a stop sequence that spans tokens, and include_stop keeps it', async () => {
    harness.engine.script = encode('one two STOP three');
    const request = { text: 'x', stop: { sequences: ['nothing', 'wo ST'] } };
    const pieces = deltas(await stream(request));
    expect(joined(pieces, 'text')).toBe('one t');
    expect(pieces.at(-1)).toMatchObject({ finishReason: 'FINISH_REASON_STOP', stopMatch: { sequence: 'wo ST' } });
    const kept = deltas(await stream({ ...request, stop: { ...request.stop, includeStop: true } }));
    expect(joined(kept, 'text')).toBe('one two ST');
  });

  test('leaves a stop token out of the text but counts and lists it', async () => {
    const [first, second] = encode('alpha beta') as [number, number];
    harness.engine.script = [first, second, first];
    const { choices, usage } = await generate({
      text: 'x',
      stop: { tokenIds: [second] },
      output: { tokenIds: true, logprobs: true },
    });
    expect(choices[0]).toMatchObject({
      tokenIds: [first, second],
      finishReason: 'FINISH_REASON_STOP',
      stopMatch: { tokenId: second },
    });
    expect(choices[0].text).toBe(harness.text.tokenizer.decode([first]).text);
    expect(choices[0].logprobs.length).toBe(2);
    expect(usage.completionTokens).toBe(2);
  });

  test('comes apart into reasoning and answer, and reasoning tokens are counted', async () => {
    harness.engine.script = [...encode('let me think'), ...encode('</think>', true), ...encode('42')];
    const thinking = chat('go', { reasoningEffort: 'REASONING_EFFORT_HIGH', maxReasoningTokens: 500 });
    const messages = await stream(thinking);
    expect(joined(deltas(messages), 'reasoning')).toBe('let me think');
    expect(joined(deltas(messages), 'text')).toBe('42');
    expect(harness.engine.lastRequest?.reasoning).toMatchObject({ startsInReasoning: true, maxTokens: 500 });
    const { reasoningTokens, completionTokens } = messages.at(-1).finished.usage;
    expect(reasoningTokens).toBe(encode('let me think').length + 1);
    expect(completionTokens).toBe(reasoningTokens + encode('42').length + 1);
  });

  test('becomes tool calls where the model calls tools', async () => {
    const marked = (text: string) => encode(text.replaceAll('|', '｜DSML｜'), true);
    harness.engine.script = marked(
      'Wait.\n\n<|tool_calls>\n<|invoke name="look_up">\n<|parameter name="city" string="true">Oslo</|parameter>\n<|parameter name="days" string="false">3</|parameter>\n</|invoke>\n</|tool_calls>',
    );
    const tools = [{ name: 'look_up', description: 'looks up', parametersJson: '{"type":"object"}' }];
    const request = { ...chat('weather?', { tools }), stop: { maxTokens: 200 } };
    const pieces = deltas(await stream(request));
    expect(joined(pieces, 'text')).toBe('Wait.');
    const calls = pieces.flatMap(({ toolCalls }) => toolCalls);
    expect(calls.map(({ argumentsJson }) => argumentsJson).join('')).toBe('{"city": "Oslo", "days": 3}');
    expect(calls[0]).toMatchObject({ index: 0, name: 'look_up', id: expect.stringMatching(/^call_/) });
    expect(calls.slice(1).every(({ id, name }) => id === '' && name === '')).toBe(true);
    expect(pieces.at(-1).finishReason).toBe('FINISH_REASON_TOOL_CALLS');
    const { choices } = await generate(request);
    expect(choices[0]).toMatchObject({ finishReason: 'FINISH_REASON_TOOL_CALLS', text: 'Wait.' });
    expect(choices[0].toolCalls).toEqual([
      { id: expect.any(String), name: 'look_up', argumentsJson: '{"city": "Oslo", "days": 3}' },
    ]);
  });

  test('stays away when it is not wanted', async () => {
    harness.engine.script = encode('some words');
    const { choices } = await generate({ text: 'x', output: { text: false, tokenIds: true } });
    expect(choices[0].text).toBe('');
    expect(choices[0].tokenIds).toEqual([...encode('some words'), harness.model.eosId]);
  });
});

describe('prompts', () => {
  test('raw text gets a BOS as the file or the request says, and special tokens only on demand', async () => {
    const { bosId, addBos } = harness.text.tokenizer.vocabulary;
    const prompt = async (textOptions: object, text = 'hello') => {
      await generate({ text, textOptions, stop: { maxTokens: 0 } });
      return [...(harness.engine.lastRequest?.promptTokens ?? [])];
    };
    const plain = encode('hello');
    expect(await prompt({})).toEqual(addBos ? [bosId, ...plain] : plain);
    expect(await prompt({ addBos: true })).toEqual([bosId, ...plain]);
    expect(await prompt({ addBos: false })).toEqual(plain);
    expect(await prompt({ addBos: false }, '<think>')).toEqual(encode('<think>'));
    expect(await prompt({ addBos: false, parseSpecial: true }, '<think>')).toEqual(encode('<think>', true));
  });

  test('token ids are taken as they are, and every sampling field reaches the engine', async () => {
    await generate({
      ...ids(1, 2, 3),
      sampling: {
        ...{
          temperature: 0.5,
          topK: 7,
          topP: 0.25,
          minP: 0.125,
          presencePenalty: -0.5,
          frequencyPenalty: 0.75,
          repetitionPenalty: 1.5,
        },
        ...{ seed: Number.MAX_SAFE_INTEGER, n: 2, logitBias: { 7: -2.5, 11: 1 } },
      },
      stop: { maxTokens: 3, minTokens: 2, sequences: ['é'], tokenIds: [4, 4, 5], ignoreEos: true },
      output: { logprobs: true, topLogprobs: 20 },
      priority: 'PRIORITY_INTERACTIVE',
    });
    expect(harness.engine.lastRequest).toMatchObject({
      promptTokens: Uint32Array.of(1, 2, 3),
      numChoices: 2,
      sampling: {
        ...{
          temperature: 0.5,
          topK: 7,
          topP: 0.25,
          minP: 0.125,
          presencePenalty: -0.5,
          frequencyPenalty: 0.75,
          repetitionPenalty: 1.5,
        },
        ...{
          seed: Number.MAX_SAFE_INTEGER,
          logitBias: new Map([
            [7, -2.5],
            [11, 1],
          ]),
        },
      },
      stop: { maxTokens: 3, minTokens: 2, sequences: [Buffer.from('é')], tokenIds: [4, 5], ignoreEos: true },
      ...{ logprobs: true, topLogprobs: 20, priority: 'interactive' },
    });
  });

  test('zero is not the same as unset', async () => {
    await generate({ ...ids(1), sampling: { temperature: 0, topK: 0, seed: 0 }, stop: { maxTokens: 1 } });
    expect(harness.engine.lastRequest?.sampling).toMatchObject({ temperature: 0, topK: 0, seed: 0 });
    await generate({ ...ids(1), stop: { minTokens: 40 } });
    expect(harness.engine.lastRequest?.stop).toMatchObject({ maxTokens: 40, minTokens: 40 });
    await generate({ ...ids(1) });
    expect(harness.engine.lastRequest?.stop).toMatchObject({ maxTokens: 32, minTokens: 0 });
    expect(harness.engine.lastRequest?.sampling.temperature).toBe(harness.model.defaultSampling.temperature);
    expect(harness.engine.lastRequest?.stop.maxTokens).toBe(32);
    const { choices, usage } = await generate({ ...ids(1, 2), stop: { maxTokens: 0 } });
    expect(choices[0]).toMatchObject({ finishReason: 'FINISH_REASON_LENGTH', text: '', tokenIds: [] });
    expect(usage).toMatchObject({ promptTokens: 2, completionTokens: 0, totalTokens: 2 });
  });
});

describe('answers', () => {
  test('the unary answer holds what the stream says', async () => {
    harness.engine.script = encode('the very same words');
    const request = {
      ...chat('go'),
      sampling: { seed: 3 },
      output: { tokenIds: true, logprobs: true, topLogprobs: 2, timings: true, promptTokenIds: true },
    };
    const messages = await stream(request);
    const whole = await generate(request);
    const pieces = deltas(messages);
    expect(whole.choices[0].text).toBe(joined(pieces, 'text'));
    expect(whole.choices[0].tokenIds).toEqual(pieces.flatMap(({ tokenIds }) => tokenIds));
    expect(whole.choices[0].logprobs).toEqual(pieces.flatMap(({ logprobs }) => logprobs));
    expect(whole.usage).toEqual(messages.at(-1).finished.usage);
    expect(whole).toMatchObject({
      model: 'fake@7',
      fingerprint: 'f00d',
      seed: 3,
      promptTokenIds: messages[0].started.promptTokenIds,
    });
    for (const { timings } of [whole, messages.at(-1).finished]) {
      for (const part of ['queue', 'prefill', 'decode', 'timeToFirstToken']) expect(timings[part]).not.toBeNull();
    }
  });

  test('log-probabilities come with the bytes of each token', async () => {
    const [token] = encode('é') as [number];
    harness.engine.script = [token];
    const { choices } = await generate({
      text: 'x',
      stop: { maxTokens: 1 },
      output: { logprobs: true, topLogprobs: 3 },
    });
    const [logprob] = choices[0].logprobs;
    expect(logprob).toMatchObject({ tokenId: token, logprob: -0.5 });
    expect(logprob.tokenBytes.equals(Buffer.from(harness.text.tokenizer.tokenBytes(token)))).toBe(true);
    expect(logprob.top.map(({ logprob: value }: Message) => value)).toEqual([-0.5, -1.5, -2.5]);
  });

  test('choices share the prompt, which is counted once, and each ends once', async () => {
    const messages = await stream({
      ...ids(1, 2, 3),
      sampling: { n: 8, seed: 1 },
      stop: { maxTokens: 2, ignoreEos: true },
      output: { tokenIds: true },
    });
    const pieces = deltas(messages);
    for (let index = 0; index < 8; index++) {
      const own = pieces.filter((piece) => piece.index === index);
      expect(own.flatMap(({ tokenIds }) => tokenIds).length).toBe(2);
      expect(own.map(({ finishReason }) => finishReason)).toEqual([
        'FINISH_REASON_UNSPECIFIED',
        'FINISH_REASON_LENGTH',
      ]);
    }
    expect(messages.at(-1).finished.usage).toMatchObject({ promptTokens: 3, completionTokens: 16, totalTokens: 19 });
  });

  test('a choice without tokens still sends one delta with its finish reason', async () => {
    const pieces = deltas(await stream({ ...ids(1, 2), stop: { maxTokens: 0 } }));
    expect(pieces.length).toBe(1);
    expect(pieces[0]).toMatchObject({ tokenCount: 0, finishReason: 'FINISH_REASON_LENGTH', stopMatch: null });
  });

  test('generation ends with CONTEXT where the context is full', async () => {
    const prompt = Array.from({ length: harness.model.contextLength - 2 }, () => 1);
    const { choices, usage } = await generate({ ...ids(...prompt), stop: { maxTokens: 100, ignoreEos: true } });
    expect(choices[0].finishReason).toBe('FINISH_REASON_CONTEXT');
    expect(usage.completionTokens).toBe(2);
  });
});

describe('pacing', () => {
  test('tokens gather until there are enough of them', async () => {
    const request = {
      ...ids(1),
      stop: { maxTokens: 10, ignoreEos: true },
      stream: { maxTokensPerMessage: 4, maxDelay: { seconds: 60 } },
    };
    const pieces = deltas(await stream(request));
    expect(pieces.map(({ tokenCount }) => tokenCount)).toEqual([4, 4, 2]);
  });

  test('a partly filled message leaves after max_delay', async () => {
    const slow = await startHarness({ stepMs: 30 });
    try {
      const call = slow.peer.stream({
        ...ids(1),
        stop: { maxTokens: 6, ignoreEos: true },
        stream: { maxTokensPerMessage: 100, maxDelay: { nanos: 40e6 } },
      });
      const pieces = deltas((await collect(call)).messages);
      expect(pieces.length).toBeGreaterThan(1);
      expect(pieces.reduce((sum, { tokenCount }) => sum + tokenCount, 0)).toBe(6);
    } finally {
      await slow.close();
    }
  });
});

describe('a model without a vocabulary', () => {
  test('answers token ids with token ids, and its text is empty', async () => {
    const bare = await startHarness({ withText: false });
    try {
      const answer = await bare.peer.unary('generation', 'generate', {
        ...ids(1, 2),
        stop: { maxTokens: 3, ignoreEos: true },
        output: { tokenIds: true, logprobs: true },
      });
      expect(answer.choices[0]).toMatchObject({ text: '', reasoning: '' });
      expect(answer.choices[0].tokenIds.length).toBe(3);
      expect(answer.choices[0].logprobs[0].tokenBytes.length).toBe(0);
    } finally {
      await bare.close();
    }
  });
});

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
