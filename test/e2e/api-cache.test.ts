// The prompt cache as a client sees it, over the fake engine and its fake cache: plans, usage, cost, and CacheService. That
// what is said is also true of a disk is for other tests; here every number must follow from what the cache said.

import type { ClientReadableStream } from '@grpc/grpc-js';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Failure } from '../../src/base/failures.js';
import type { MissReason } from '../../src/kv/types.js';
import { collect, type Harness, type Message, refusal, refusalOf, startHarness } from '../fakes/api-harness.js';

const INVALID_ARGUMENT = 3;
const PREFIX_ID = 'ab'.repeat(32);

let harness: Harness;
beforeAll(async () => {
  harness = await startHarness();
});
afterAll(() => harness.close());
beforeEach(() => {
  harness.engine.cache.tier = 'memory';
  harness.engine.holdBefore = null;
});

/** A prompt that no other test sends. */
const promptOf = (length: number, seed: number) =>
  Array.from({ length }, (_, index) => (index * 7 + seed * 131 + 5) % 4000);
const ids = (values: readonly number[]) => ({ tokenIds: { ids: values } });
const one = { stop: { maxTokens: 1, ignoreEos: true } };
const generate = (request: object): Promise<Message> => harness.peer.unary('generation', 'generate', request);
const cacheCall = (method: string, request: object): Promise<Message> => harness.peer.unary('cache', method, request);
const openStream = (method: string, request: object) =>
  harness.peer.client('cache')[method]?.(request) as ClientReadableStream<Message>;
async function stream(request: object): Promise<Message[]> {
  const { messages, error } = await collect(harness.peer.stream(request));
  expect(error).toBeNull();
  return messages;
}
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}

/** The invariants that usage.proto states, and the cost from the three prices of the default list. */
function checkUsage(usage: Message): void {
  expect(usage.promptTokens).toBe(usage.promptCacheHitTokens + usage.promptCacheMissTokens);
  expect(usage.promptCacheHitTokens).toBe(usage.hitLiveTokens + usage.hitMemoryTokens + usage.hitDiskTokens);
  expect(usage.totalTokens).toBe(usage.promptTokens + usage.completionTokens);
  expect(usage.cost).toEqual({
    currencyCode: 'CNY',
    amountPicos:
      usage.promptCacheHitTokens * 25_000 +
      usage.promptCacheMissTokens * 3_000_000 +
      usage.completionTokens * 6_000_000,
    priceList: 'default',
    priceClass: 'standard',
  });
}

describe('usage', () => {
  test('of the same prompt again is hits up to the last whole block, and costs what the price list says', async () => {
    const prompt = promptOf(300, 1);
    const first = (await generate({ ...ids(prompt), ...one })).usage;
    expect(first).toMatchObject({ promptCacheMissTokens: 300, cacheWriteTokens: 256 });
    checkUsage(first);
    const second = (await generate({ ...ids(prompt), ...one })).usage;
    expect(second).toMatchObject({
      ...{ promptCacheHitTokens: 256, hitMemoryTokens: 256, promptCacheMissTokens: 44, cacheWriteTokens: 0 },
      miss: { reason: 'MISS_REASON_NONE', tokenPosition: 256, nearestCachedTokens: 0 },
    });
    checkUsage(second);
    expect(second.prefixId).toMatch(/^[0-9a-f]{64}$/);
    expect(second.prefixId).toBe(first.prefixId);
  });

  test.each(['live', 'memory', 'disk'] as const)('counts hits from %s under that name', async (tier) => {
    const prompt = promptOf(200, 2);
    await generate({ ...ids(prompt), ...one });
    harness.engine.cache.tier = tier;
    const { usage } = await generate({ ...ids(prompt), ...one });
    const byTier = { live: usage.hitLiveTokens, memory: usage.hitMemoryTokens, disk: usage.hitDiskTokens };
    expect(byTier).toEqual({ live: 0, memory: 0, disk: 0, [tier]: 128 });
    checkUsage(usage);
  });

  test('of two choices counts the prompt once', async () => {
    const { usage } = await generate({ ...ids(promptOf(130, 3)), ...one, sampling: { n: 2 } });
    expect(usage).toMatchObject({ promptTokens: 130, completionTokens: 2, totalTokens: 132 });
    checkUsage(usage);
  });

  test('says what stood in the way: mode, length, scope', async () => {
    const prompt = ids(promptOf(260, 4));
    const reasonOf = async (cache: object, request: object = prompt) =>
      (await generate({ ...request, ...one, cache })).usage.miss.reason;
    expect(await reasonOf({ mode: 'CACHE_MODE_BYPASS' })).toBe('MISS_REASON_BYPASSED');
    expect(await reasonOf({ mode: 'CACHE_MODE_READ_ONLY' })).not.toBe('MISS_REASON_NONE');
    expect(await reasonOf({ scope: 'mine' })).toBe('MISS_REASON_NOT_STORED');
    expect(await reasonOf({ scope: 'mine' })).toBe('MISS_REASON_NONE');
    expect(await reasonOf({ mode: 'CACHE_MODE_READ_ONLY', scope: 'mine' })).toBe('MISS_REASON_NONE');
    expect(await reasonOf({})).not.toBe('MISS_REASON_NONE'); // BYPASS and READ_ONLY kept nothing, another scope is not ours
    expect(await reasonOf({}, ids(promptOf(128, 4)))).toBe('MISS_REASON_SHORT');
  });

  test('of a request that keeps nothing has no prefix_id', async () => {
    const { usage } = await generate({ ...ids(promptOf(260, 5)), ...one, cache: { mode: 'CACHE_MODE_READ_ONLY' } });
    expect(usage).toMatchObject({ prefixId: '', cacheWriteTokens: 0 });
  });

  test('is nothing but tokens where there is no price list', async () => {
    const unpriced = await startHarness({ prices: null });
    const { usage } = await unpriced.peer.unary('generation', 'generate', { ...ids([1, 2]), ...one });
    expect(usage).toMatchObject({ promptTokens: 2, cost: null });
    expect((await unpriced.peer.unary('model', 'getModel')).model.prices).toEqual([]);
    await unpriced.close();
  });

  test('can be checked against the prices that the model shows', async () => {
    const { model } = await harness.peer.unary('model', 'getModel');
    expect(model.prices).toEqual([
      {
        ...{ priceClass: 'standard', currencyCode: 'CNY', priceList: 'default' },
        ...{ hitPicos: 25_000, missPicos: 3_000_000, completionPicos: 6_000_000 },
      },
    ]);
  });
});

describe('conversations', () => {
  const long = (word: string) => `${word} `.repeat(400);
  const message = (role: string, content: string) => ({ role, content });
  const chat = (...contents: string[]) => ({
    chat: {
      messages: contents.map((content, index) =>
        message(index === 0 ? 'ROLE_SYSTEM' : index % 2 === 1 ? 'ROLE_USER' : 'ROLE_ASSISTANT', content),
      ),
    },
  });
  const tokensOf = async (request: object): Promise<number> =>
    (await harness.peer.unary('tokenizer', 'tokenize', { ...request, countOnly: true })).tokenCount;

  test('ask for points behind the setup and the messages that the client names', async () => {
    const request = chat(long('rules'), long('question'), long('answer'), 'and now?');
    await generate({ ...request, ...one, cache: { boundaryAfterMessage: [2, 1] } });
    const { cache, promptTokens } = harness.engine.lastRequest as NonNullable<Harness['engine']['lastRequest']>;
    const setup = await tokensOf(chat(long('rules')));
    const tokenizer = harness.text.tokenizer;
    const special = (text: string) => tokenizer.specialId(text) as number;
    const starts = [...promptTokens.entries()].filter(([, id]) => id === special('<｜User｜>')).map(([at]) => at);
    const assistant = promptTokens.indexOf(special('<｜Assistant｜>'));
    // setup | <User> question | <Assistant> ... answer <EOS> | <User> and now? | <Assistant> ...
    expect(cache.boundaries).toEqual([starts[0], assistant, starts[1]]);
    expect(setup).toBe((starts[0] as number) + 2); // the two tokens that open the answer
  });

  test('are told which message a miss begins in', async () => {
    const first = chat(long('rules'), `${long('same')} ${long('first')}`);
    await generate({ ...first, ...one });
    const { usage } = await generate({ ...chat(long('rules'), `${long('same')} ${long('second')}`), ...one });
    expect(usage.miss).toMatchObject({ reason: 'MISS_REASON_DIVERGED', messageIndex: 1 });
    const other = await generate({ ...chat(long('laws'), long('same')), ...one });
    expect(other.usage.miss).toMatchObject({ tokenPosition: 0, messageIndex: 0 });
    const raw = await generate({ ...ids(promptOf(200, 6)), ...one });
    expect(raw.usage.miss.messageIndex ?? null).toBeNull();
  });

  test('without a system message have their tools as setup, and a miss in there is in no message', async () => {
    const tools = Array.from({ length: 2 }, (_, index) => ({ name: `f${index}`, description: long('does') }));
    await generate({ chat: { messages: [message('ROLE_USER', 'hello')], tools }, ...one });
    const { cache, promptTokens } = harness.engine.lastRequest as NonNullable<Harness['engine']['lastRequest']>;
    const user = promptTokens.indexOf(harness.text.tokenizer.specialId('<｜User｜>') as number);
    expect(cache.boundaries).toEqual([user]);
    const { usage } = await generate({
      chat: { messages: [message('ROLE_USER', 'hello')], tools: tools.slice(1) },
      ...one,
      cache: { scope: 'tools' },
    });
    expect(usage.miss.messageIndex ?? null).toBeNull();
  });
});

describe('the stream', () => {
  test('begins with the plan and shows the restore, which the timings repeat', async () => {
    const prompt = promptOf(1000, 7);
    await generate({ ...ids(prompt), ...one });
    harness.engine.cache.tier = 'disk';
    harness.engine.prefillTokensPerSecond = 1000;
    const messages = await stream({ ...ids(prompt), ...one, output: { timings: true } });
    harness.engine.prefillTokensPerSecond = 0;
    expect(messages[0].started.cachePlan).toEqual({
      ...{ promptTokens: 1000, hitLiveTokens: 0, hitMemoryTokens: 0, hitDiskTokens: 896, missTokens: 104 },
      miss: { reason: 'MISS_REASON_NONE', tokenPosition: 896, nearestCachedTokens: 0 },
      restoreBytes: 7000,
      estimatedDuration: { seconds: 0, nanos: 104e6 },
    });
    expect(messages[0].started.estimatedTimeToFirstToken).toEqual({ seconds: 0, nanos: 104e6 });
    const progress = messages.filter(({ event }) => event === 'progress').map((each) => each.progress);
    expect(progress.map(({ phase }) => phase)).toEqual(['PHASE_RESTORING', 'PHASE_PREFILL', 'PHASE_DECODE']);
    expect(progress.map(({ promptTokensDone }) => promptTokensDone)).toEqual([0, 896, 1000]);
    const { usage, timings } = messages.at(-1).finished;
    checkUsage(usage);
    expect(timings).toMatchObject({ restore: { seconds: 0, nanos: 2.5e6 }, kvBytesRead: 7000 });
  });

  test('of a request with nothing to restore has no such phase', async () => {
    const messages = await stream({ ...ids(promptOf(200, 8)), ...one });
    const phases = messages.filter(({ event }) => event === 'progress').map(({ progress }) => progress.phase);
    expect(phases).toEqual(['PHASE_PREFILL', 'PHASE_DECODE']);
  });
});

test('the log line says what hit, by tier, and why the rest missed', async () => {
  const prompt = promptOf(300, 9);
  await generate({ ...ids(prompt), ...one });
  harness.engine.cache.tier = 'disk';
  await generate({ ...ids(prompt), ...one, requestId: 'logged' });
  expect(harness.log.find(({ request_id }) => request_id === 'logged')).toMatchObject({
    ...{ prompt_tokens: 300, hit_tokens: 256, hit_disk_tokens: 256, hit_memory_tokens: 0, hit_live_tokens: 0 },
    ...{ miss_tokens: 44, miss: 'none', write_tokens: 0, restore_ms: 3 },
  });
});

describe('ProbePrefix', () => {
  test('says what would hit and computes nothing', async () => {
    const prompt = promptOf(500, 10);
    const before = harness.engine.numStarted;
    expect((await cacheCall('probePrefix', { prompt: ids(prompt) })).plan).toMatchObject({
      ...{ promptTokens: 500, missTokens: 500, hitMemoryTokens: 0, estimatedDuration: null },
    });
    expect(harness.engine.numStarted).toBe(before);
    await generate({ ...ids(prompt), ...one, cache: { scope: 'probe' } });
    const { plan } = await cacheCall('probePrefix', { prompt: { ...ids(prompt), scope: 'probe' } });
    expect(plan).toMatchObject({ hitMemoryTokens: 384, missTokens: 116, miss: { reason: 'MISS_REASON_NONE' } });
  });

  test('takes text and conversations as Generate does', async () => {
    const text = 'once upon a time '.repeat(60);
    await generate({ text, ...one });
    expect((await cacheCall('probePrefix', { prompt: { text } })).plan.miss.reason).toBe('MISS_REASON_NONE');
    const chat = { messages: [{ role: 'ROLE_USER', content: text }] };
    await generate({ chat, ...one });
    const { plan } = await cacheCall('probePrefix', { prompt: { chat } });
    expect(plan.hitMemoryTokens).toBe(Math.floor((plan.promptTokens - 1) / 128) * 128);
  });

  test('passes on every reason that a cache can have', async () => {
    const { cache } = harness.engine;
    const names: Record<MissReason, string> = {
      ...{ none: 'NONE', new: 'NEW', diverged: 'DIVERGED', evicted: 'EVICTED', fingerprint: 'FINGERPRINT' },
      ...{ scope: 'SCOPE', corrupt: 'CORRUPT', short: 'SHORT', bypassed: 'BYPASSED', recovering: 'RECOVERING' },
      ...{ unavailable: 'UNAVAILABLE', 'not-stored': 'NOT_STORED', 'no-point': 'NO_POINT' },
    };
    const { probe } = cache;
    for (const [reason, name] of Object.entries(names)) {
      cache.probe = (tokens, scope) => ({
        ...probe.call(cache, tokens, scope),
        miss: { reason: reason as MissReason, tokenPosition: 3, nearestCachedTokens: 256 },
      });
      const { plan } = await cacheCall('probePrefix', { prompt: ids([1, 2, 3, 4]) });
      expect(plan.miss).toMatchObject({ reason: `MISS_REASON_${name}`, tokenPosition: 3, nearestCachedTokens: 256 });
    }
    cache.probe = probe;
  });
});

describe('WarmPrefix', () => {
  const warm = (request: object) => collect(openStream('warmPrefix', request));

  test('computes a prompt in the background, generates nothing, and names what it kept', async () => {
    const prompt = promptOf(700, 11);
    const { messages, error } = await warm({ prompt: { ...ids(prompt), scope: 'warm' } });
    expect(error).toBeNull();
    expect(harness.engine.lastRequest).toMatchObject({
      priority: 'background',
      stop: { maxTokens: 0 },
      cache: { read: true, write: true, scope: 'warm' },
    });
    const last = messages.at(-1);
    expect(last).toMatchObject({ prefixId: expect.stringMatching(/^[0-9a-f]{64}$/), storedTokens: 640 });
    expect(last.progress).toMatchObject({ promptTokensDone: 700, promptTokensTotal: 700 });
    expect(messages.slice(0, -1).every(({ prefixId }) => prefixId === undefined || prefixId === '')).toBe(true);
    expect(messages.map(({ progress }) => progress.phase)).toContain('PHASE_PREFILL');
    const { usage } = await generate({ ...ids(prompt), ...one, cache: { scope: 'warm' } });
    expect(usage).toMatchObject({ promptCacheHitTokens: 640, prefixId: last.prefixId });
    expect((await warm({ prompt: { ...ids(prompt), scope: 'warm' } })).messages.at(-1)).toMatchObject({
      storedTokens: 640,
    });
  });

  test('takes the priority that it is given', async () => {
    await warm({ prompt: ids([1, 2]), priority: 'PRIORITY_INTERACTIVE' });
    expect(harness.engine.lastRequest?.priority).toBe('interactive');
  });

  test('of a prompt that is too short to keep ends without a prefix_id', async () => {
    const { messages, error } = await warm({ prompt: ids([1, 2, 3]) });
    expect(error).toBeNull();
    expect(messages.at(-1)).toMatchObject({ storedTokens: 0 });
    expect(messages.at(-1).prefixId || null).toBeNull();
  });

  test('stops when its caller hangs up', async () => {
    harness.engine.holdBefore = 'prefill';
    const call = openStream('warmPrefix', { prompt: ids(promptOf(300, 12)) });
    call.on('data', () => {}).on('error', () => {});
    await until(() => harness.engine.numLive === 1);
    call.cancel();
    await until(() => harness.engine.numLive === 0);
    harness.engine.release();
  });
});

describe('PinPrefix', () => {
  test('holds a prefix until a time, and lets go without one', async () => {
    const { prefixId } = (await generate({ ...ids(promptOf(400, 13)), ...one })).usage;
    const seconds = Math.floor(Date.now() / 1000) + 3600;
    expect(await cacheCall('pinPrefix', { prefixId, until: { seconds, nanos: 5e8 } })).toEqual({ bytes: 3000 });
    expect(harness.engine.cache.pins.get(prefixId)).toBe(seconds * 1000 + 500);
    await cacheCall('pinPrefix', { prefixId });
    expect(harness.engine.cache.pins.has(prefixId)).toBe(false);
  });

  test('of a prefix that nobody keeps is NOT_FOUND by name', async () => {
    const { code, reason, details } = await refusal(cacheCall('pinPrefix', { prefixId: PREFIX_ID }));
    expect([code, reason]).toEqual([5, 'PREFIX_NOT_FOUND']);
    expect(details['google.rpc.ResourceInfo']).toMatchObject({ resourceType: 'prefix', resourceName: PREFIX_ID });
  });
});

describe('PurgeCache', () => {
  const { purges } = { purges: () => harness.engine.cache.purges };
  test('passes every selector on as it was given', async () => {
    purges().length = 0;
    const seconds = 1_700_000_000;
    await cacheCall('purgeCache', { scope: 'nobody' });
    await cacheCall('purgeCache', { scope: '' });
    await cacheCall('purgeCache', { prefixId: PREFIX_ID, dryRun: true });
    await cacheCall('purgeCache', { all: true, unusedSince: { seconds } });
    await cacheCall('purgeCache', { unusedSince: { seconds } });
    const none = { scope: null, prefixId: null, unusedSinceMs: null, dryRun: false };
    expect(purges()).toEqual([
      { ...none, scope: 'nobody' },
      { ...none, scope: '' },
      { ...none, prefixId: PREFIX_ID, dryRun: true },
      { ...none, unusedSinceMs: seconds * 1000 },
      { ...none, unusedSinceMs: seconds * 1000 },
    ]);
  });

  test('deletes a scope and nothing else, and a dry run nothing at all', async () => {
    const prompt = promptOf(400, 14);
    const inScope = (scope: string) => generate({ ...ids(prompt), ...one, cache: { scope } });
    await inScope('purge-a');
    await inScope('purge-b');
    expect(await cacheCall('purgeCache', { scope: 'purge-a', dryRun: true })).toEqual({ blocks: 3, bytes: 3000 });
    expect(await cacheCall('purgeCache', { scope: 'purge-a' })).toEqual({ blocks: 3, bytes: 3000 });
    expect(await cacheCall('purgeCache', { scope: 'purge-a' })).toEqual({ blocks: 0, bytes: 0 });
    expect((await inScope('purge-b')).usage.promptCacheHitTokens).toBe(384);
    expect((await inScope('purge-a')).usage.promptCacheHitTokens).toBe(0);
  });

  test('deletes a prefix with what extends it', async () => {
    const prompt = promptOf(600, 15);
    const { prefixId } = (await generate({ ...ids(prompt.slice(0, 300)), ...one })).usage;
    await generate({ ...ids(prompt), ...one });
    expect(await cacheCall('purgeCache', { prefixId })).toEqual({ blocks: 3, bytes: 3000 });
    expect((await generate({ ...ids(prompt), ...one })).usage.promptCacheHitTokens).toBe(128);
  });

  test('on a disk that cannot be written is UNAVAILABLE, to be tried again', async () => {
    harness.engine.cache.purgeFailure = new Failure('CACHE_UNAVAILABLE', 'the disk is full; the purge is in force');
    const { code, reason, details, message } = await refusal(cacheCall('purgeCache', { all: true }));
    harness.engine.cache.purgeFailure = null;
    expect([code, reason, message]).toEqual([14, 'CACHE_UNAVAILABLE', 'the disk is full; the purge is in force']);
    expect(details).toHaveProperty(['google.rpc.RetryInfo']);
  });
});

describe('WatchCacheEvents', () => {
  const watch = (afterSequence = 0) => {
    const messages: Message[] = [];
    const call = openStream('watchCacheEvents', { afterSequence });
    const over = new Promise<Message>((resolve) => call.on('error', resolve));
    call.on('data', (message: Message) => messages.push(message));
    return { call, messages, over, events: () => messages.flatMap(({ events }) => events) };
  };

  test('sends a snapshot and then changes, numbered, with hashes that chain', async () => {
    await cacheCall('purgeCache', { all: true });
    await generate({ ...ids(promptOf(300, 16)), ...one });
    const { call, messages, over, events } = watch();
    await until(() => events().length === 2);
    const [first, second] = events();
    expect(first.stored).toMatchObject({ tier: 'CACHE_TIER_MEMORY', fingerprint: 'f00d' });
    expect(first.stored.tokenIds).toEqual(promptOf(300, 16).slice(0, 128));
    expect([first.stored.blockHash.length, first.stored.parentHash.length, first.stored.scopeTag.length]).toEqual([
      16, 0, 16,
    ]);
    expect(second.stored.parentHash.equals(first.stored.blockHash)).toBe(true);
    const { sequence } = messages.at(-1);
    await generate({ ...ids(promptOf(200, 17)), ...one });
    await until(() => events().length === 3);
    expect(messages.at(-1).sequence).toBe(sequence + 1);
    await cacheCall('purgeCache', { all: true });
    await until(() => events().length === 6);
    expect(
      events()
        .slice(3)
        .every(({ kind }) => kind === 'removed'),
    ).toBe(true);
    expect(messages.at(-1).sequence).toBe(sequence + 4);
    expect(messages.some(({ reset }) => reset)).toBe(false);
    call.cancel();
    expect((await over).code).toBe(1);
    await until(() => harness.engine.cache.numReaders === 0);
  });

  test('passes a reset on before what follows it', async () => {
    const { call, messages, over, events } = watch(7);
    await until(() => harness.engine.cache.numReaders === 1);
    const removed = {
      t: 'removed',
      tier: 'disk',
      blockHash: new Uint8Array(16),
      scopeTag: new Uint8Array(16),
    } as const;
    harness.engine.cache.emit([removed], true);
    await until(() => events().length === 1);
    expect(messages.map(({ reset, events: some }) => [reset, some.length])).toEqual([
      [true, 0],
      [false, 1],
    ]);
    call.cancel();
    await over;
  });

  test('ends with DRAINING when the server shuts down, and holds nothing up', async () => {
    const own = await startHarness();
    const call = own.peer.client('cache').watchCacheEvents?.({}) as ClientReadableStream<Message>;
    const over = new Promise<Message>((resolve) => call.on('error', resolve));
    call.on('data', () => {});
    await until(() => own.engine.cache.numReaders === 1);
    const drained = own.server.drain(60_000);
    expect(refusalOf(await over)).toMatchObject({ code: 14, reason: 'DRAINING' });
    await drained;
    await own.close();
  });
});

test('GetCacheStats shows what the cache counts', async () => {
  const { cache } = harness.engine;
  cache.statsOverrides = {
    tiers: [
      {
        ...{ tier: 'disk', bytesUsed: 10, bytesLimit: 2 ** 40, blocks: 3, pinnedBlocks: 1 },
        ...{ hitTokens: 128, evictions: 2, bytesRead: 5, bytesWritten: 2 ** 45 },
      },
    ],
    misses: new Map([['corrupt', { requests: 2, tokens: 300 }]]),
    ...{ hitTokens: 5, missTokens: 6, bytesWrittenToday: 7, dailyWriteBudgetBytes: 8, quarantinedBlocks: 9 },
    ...{ ioQueueDepth: 10, readLatencyP99Ms: 1.5, recovering: true, diskProblem: 'the disk is full' },
  };
  const stats = await harness.peer.unary('admin', 'getCacheStats');
  cache.statsOverrides = {};
  expect(stats).toEqual({
    tiers: [
      {
        ...{ tier: 'CACHE_TIER_DISK', bytesUsed: 10, bytesLimit: 2 ** 40, blocks: 3, pinnedBlocks: 1 },
        ...{ hitTokens: 128, evictions: 2, bytesRead: 5, bytesWritten: 2 ** 45 },
      },
    ],
    misses: [{ reason: 'MISS_REASON_CORRUPT', requests: 2, tokens: 300 }],
    ...{ hitTokens: 5, missTokens: 6, bytesWrittenToday: 7, dailyWriteBudgetBytes: 8, quarantinedBlocks: 9 },
    ...{ ioQueueDepth: 10, readLatencyP99: { seconds: 0, nanos: 1_500_000 }, recovering: true },
    diskProblem: 'the disk is full',
  });
});

test('the health service tells under the name "disk" whether the cache\'s disk works', async () => {
  const check = () => harness.peer.unary('health', 'check', { service: 'disk' });
  expect((await refusal(check())).code).toBe(5);
  harness.server.setDiskHealth(false);
  expect((await check()).status).toBe('NOT_SERVING');
  harness.server.setDiskHealth(true);
  expect((await check()).status).toBe('SERVING');
});

describe('refusals name the field', () => {
  const vocabSize = () => harness.model.vocabSize;
  const noSelector = ['scope', 'prefix_id', 'all', 'unused_since'];
  const long = () => Array.from({ length: 5000 }, () => 1);
  const cases: readonly (readonly [string, string, () => object, string, readonly string[]])[] = [
    ['no prompt', 'probePrefix', () => ({}), 'INVALID_FIELD', ['prompt']],
    ['a prompt without input', 'probePrefix', () => ({ prompt: {} }), 'INVALID_FIELD', ['prompt.input']],
    ['an empty text', 'probePrefix', () => ({ prompt: { text: '' } }), 'INVALID_FIELD', ['prompt.text']],
    ['an empty conversation', 'probePrefix', () => ({ prompt: { chat: {} } }), 'INVALID_FIELD', ['prompt.chat']],
    [
      'a message without a role',
      'probePrefix',
      () => ({ prompt: { chat: { messages: [{ content: 'x' }] } } }),
      'INVALID_FIELD',
      ['prompt.chat.messages[0].role'],
    ],
    [
      'an id outside the vocabulary, a scope with a tab, and options without text',
      'probePrefix',
      () => ({ prompt: { ...ids([vocabSize()]), scope: '\t', textOptions: { addBos: true } } }),
      'INVALID_FIELD',
      ['prompt.text_options.add_bos', 'prompt.token_ids.ids[0]', 'prompt.scope'],
    ],
    [
      'a prompt beyond the context',
      'probePrefix',
      () => ({ prompt: ids(long()) }),
      'CONTEXT_LENGTH_EXCEEDED',
      ['prompt.token_ids'],
    ],
    ['a prefix_id that is none', 'pinPrefix', () => ({ prefixId: 'x' }), 'INVALID_FIELD', ['prefix_id']],
    ['no prefix_id', 'pinPrefix', () => ({}), 'INVALID_FIELD', ['prefix_id']],
    [
      'a time that has passed',
      'pinPrefix',
      () => ({ prefixId: PREFIX_ID, until: { seconds: 1 } }),
      'INVALID_FIELD',
      ['until'],
    ],
    [
      'a time that is none',
      'pinPrefix',
      () => ({ prefixId: PREFIX_ID, until: { seconds: 2e9, nanos: -1 } }),
      'INVALID_FIELD',
      ['until'],
    ],
    ['no selector', 'purgeCache', () => ({}), 'INVALID_FIELD', noSelector],
    ['a dry run of nothing', 'purgeCache', () => ({ dryRun: true }), 'INVALID_FIELD', noSelector],
    ['all of one scope', 'purgeCache', () => ({ all: true, scope: '' }), 'INVALID_FIELD', ['all']],
    ['a wrong prefix_id', 'purgeCache', () => ({ prefixId: PREFIX_ID.toUpperCase() }), 'INVALID_FIELD', ['prefix_id']],
    [
      'a time beyond the calendar',
      'purgeCache',
      () => ({ unusedSince: { seconds: 1e12 } }),
      'INVALID_FIELD',
      ['unused_since'],
    ],
    ['another tenant', 'purgeCache', () => ({ all: true, tenantId: 'them' }), 'UNSUPPORTED_FIELD', ['tenant_id']],
  ];
  test.each(cases)('%s: %s', async (_title, method, request, reason, fields) => {
    const refused = await refusal(cacheCall(method, request()));
    expect(refused).toMatchObject({ code: INVALID_ARGUMENT, reason, fields });
  });

  const streamCases: readonly (readonly [string, string, object, string, readonly string[]])[] = [
    ['no prompt', 'warmPrefix', {}, 'INVALID_FIELD', ['prompt']],
    ['a time to live', 'warmPrefix', { prompt: ids([1]), ttl: { seconds: 1 } }, 'UNSUPPORTED_FIELD', ['ttl']],
    ['an unknown priority', 'warmPrefix', { prompt: ids([1]), priority: 9 }, 'INVALID_FIELD', ['priority']],
    [
      'a prompt beyond the context',
      'warmPrefix',
      { prompt: ids(long()) },
      'CONTEXT_LENGTH_EXCEEDED',
      ['prompt.token_ids'],
    ],
    [
      'a number that no server gave',
      'watchCacheEvents',
      { afterSequence: '18446744073709551615' },
      'INVALID_FIELD',
      ['after_sequence'],
    ],
  ];
  test.each(streamCases)('%s: %s', async (_title, method, request, reason, fields) => {
    const { error } = await collect(openStream(method, request));
    expect(refusalOf(error as NonNullable<typeof error>)).toMatchObject({ code: INVALID_ARGUMENT, reason, fields });
  });

  test('another tenant: getCacheStats', async () => {
    const refused = await refusal(harness.peer.unary('admin', 'getCacheStats', { tenantId: 'them' }));
    expect(refused).toMatchObject({ code: INVALID_ARGUMENT, reason: 'UNSUPPORTED_FIELD', fields: ['tenant_id'] });
  });

  test('an unknown model, and one that is still loading', async () => {
    const named = { prompt: { ...ids([1]), model: 'nobody' } };
    expect(await refusal(cacheCall('probePrefix', named))).toMatchObject({ code: 5, reason: 'MODEL_NOT_FOUND' });
    const { error } = await collect(openStream('warmPrefix', named));
    expect(refusalOf(error as NonNullable<typeof error>)).toMatchObject({ code: 5, reason: 'MODEL_NOT_FOUND' });
    const loading = await startHarness({ isReady: false });
    for (const [method, request] of [
      ['probePrefix', { prompt: ids([1]) }],
      ['pinPrefix', { prefixId: PREFIX_ID }],
      ['purgeCache', { all: true }],
    ] as const) {
      expect(await refusal(loading.peer.unary('cache', method, request))).toMatchObject({
        code: 14,
        reason: 'MODEL_LOADING',
      });
    }
    await loading.close();
  });
});
