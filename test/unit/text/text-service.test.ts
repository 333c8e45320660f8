// Short texts at once, long ones in the real thread (compiled for this test): results, aborts, a thread that dies.

import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import type { ChatMessage, Conversation } from '../../../src/text/chat.js';
import { TextService } from '../../../src/text/text-service.js';
import { TokenType } from '../../../src/text/vocabulary.js';
import { tokenizer, vocabulary } from './fixtures.js';

/** Inside the project, so that the compiled worker finds its packages. */
const OUT = `node_modules/.cache/nandu-text-test-${process.pid}`;
let workerUrl: URL;
const opened: TextService[] = [];

beforeAll(() => {
  execFileSync('node_modules/.bin/tsc', ['-p', 'tsconfig.json', '--noCheck', '--outDir', OUT]);
  workerUrl = pathToFileURL(`${OUT}/text/worker.js`);
}, 60_000);

afterEach(async () => {
  for (const service of opened.splice(0)) await service.close();
});

afterAll(() => rmSync(OUT, { recursive: true, force: true }));

function open(url = workerUrl): TextService {
  const service = new TextService(vocabulary, url);
  opened.push(service);
  return service;
}

/** A worker that does what `code` says on each message. */
function workerThat(name: string, code: string): URL {
  mkdirSync(OUT, { recursive: true });
  writeFileSync(`${OUT}/${name}.mjs`, `import { parentPort } from 'node:worker_threads';\n${code}`);
  return pathToFileURL(`${OUT}/${name}.mjs`);
}

const plain = { parseSpecial: false, addBos: false };
const LONG = 'The quick brown fox, 漢字 and 😀. '.repeat(2000);
const user = (content: string): ChatMessage => ({
  role: 'user',
  content,
  reasoning: '',
  toolCalls: [],
  toolCallId: '',
});
const conversation = (content: string): Conversation => ({
  messages: [user(content)],
  tools: [],
  reasoningEffort: 'high',
  continueFinalMessage: false,
});

describe('tokens', () => {
  test('are the same from the thread and at once, options included', async () => {
    const service = open();
    for (const text of ['short', LONG, '']) {
      expect(await service.encodeText(text, plain)).toEqual(tokenizer.encode(text));
      const options = { parseSpecial: true, addBos: true };
      expect(await service.encodeText(`<think>${text}`, options)).toEqual(tokenizer.encode(`<think>${text}`, options));
    }
  });

  test('of chats too, with everything that belongs to them', async () => {
    const service = open();
    const short = await service.encodeChat(conversation('hi'));
    const long = await service.encodeChat(conversation(LONG));
    expect(short.startsInReasoning && long.startsInReasoning).toBe(true);
    expect(long.renderedText).toBe(short.renderedText.replace('hi', () => LONG));
    expect(tokenizer.decode(long.tokens, { showSpecial: true }).text).toBe(long.renderedText);
    expect([...long.messageEnds]).toEqual([long.tokens.length - 2]);
  });

  test('are answered in any number at once, each to its caller', async () => {
    const service = open();
    const texts = Array.from({ length: 20 }, (_, i) => `${i} ${LONG.slice(0, 9000 + i)}`);
    const results = await Promise.all(texts.map((text) => service.encodeText(text, plain)));
    for (const [i, text] of texts.entries()) expect(results[i]).toEqual(tokenizer.encode(text));
  });

  test('stop soon after maxTokens', async () => {
    const tokens = await open().encodeText(LONG, { ...plain, maxTokens: 50 });
    expect(tokens.length).toBeGreaterThan(50);
    expect(tokens.length).toBeLessThan(100);
  });
});

describe('a call fails', () => {
  test('with the reason of its signal, before, and while the thread works; others go on', async () => {
    const service = open();
    const reason = new Error('gone');
    await expect(service.encodeText('x', { ...plain, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const aborted = service.encodeText(LONG.repeat(20), { ...plain, signal: controller.signal });
    const other = service.encodeText(LONG, plain);
    controller.abort(reason);
    await expect(aborted).rejects.toBe(reason);
    expect(await other).toEqual(tokenizer.encode(LONG));
  });

  test('when the vocabulary has no chat markers, naming the missing one', async () => {
    const tokenTypes = Array.from(vocabulary.tokenTypes, (type, id) => (id === 3 ? TokenType.NORMAL : type));
    const service = new TextService({ ...vocabulary, tokenTypes }, workerUrl);
    expect(service.chatProblem).toContain('"<｜User｜>"');
    await expect(service.encodeChat(conversation('hi'))).rejects.toMatchObject({ reason: 'NO_TOKENIZER' });
    expect(await service.encodeText('hi', plain)).toEqual(tokenizer.encode('hi'));
  });

  test('beyond what may wait for the thread; what is there already goes on, and one text is always taken', async () => {
    const service = new TextService(vocabulary, workerUrl, LONG.length * 2);
    opened.push(service);
    const long = LONG.repeat(3);
    const taken = service.encodeText(long, plain);
    const full = { reason: 'QUEUE_FULL', facts: { metadata: { queue_depth: '1' }, retryAfterMs: 1000 } };
    await expect(service.encodeText(LONG, plain)).rejects.toMatchObject(full);
    expect(await service.encodeText('short', plain)).toEqual(tokenizer.encode('short'));
    expect(await taken).toEqual(tokenizer.encode(long));
    // What is cancelled lies in the thread's queue until it gets there.
    const signal = AbortSignal.timeout(0);
    await expect(service.encodeText(long, { ...plain, signal })).rejects.toBeDefined();
    await expect(service.encodeText(LONG, plain)).rejects.toMatchObject(full);
    await vi.waitUntil(() => service.encodeText(LONG, plain).then(Boolean, () => false), 10_000);
    const two = await Promise.all([LONG, LONG].map((text) => service.encodeText(text, plain)));
    expect(two).toEqual([tokenizer.encode(LONG), tokenizer.encode(LONG)]);
  });

  test('after close, and while it closes', async () => {
    const service = open();
    const running = service.encodeText(LONG, plain);
    const failed = expect(running).rejects.toMatchObject({ reason: 'DRAINING' });
    await service.close();
    await failed;
    await expect(service.encodeText('x', plain)).rejects.toBeInstanceOf(Failure);
    await service.close();
  });
});

describe('a thread that dies', () => {
  test('fails the calls under way by saying so; the next long text gets a new thread', async () => {
    const code = `let n = 0;
      parentPort.on('message', ({ id, job }) => {
        if (job.text.startsWith('die')) throw new Error('struck by a test');
        parentPort.postMessage({ id, result: { t: 'text', tokens: Uint32Array.of(++n) } });
      });`;
    const service = open(workerThat('dies', code));
    expect(await service.encodeText(LONG, plain)).toEqual(Uint32Array.of(1));
    const results = await Promise.allSettled([
      service.encodeText(`die${LONG}`, plain),
      service.encodeText(LONG, plain),
    ]);
    for (const result of results) {
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { reason: 'ENGINE_FAILURE', message: 'the tokenizer thread ended: struck by a test' },
      });
    }
    expect(await service.encodeText(LONG, plain)).toEqual(Uint32Array.of(1));
  });

  test('before it did any work is started once more, not again and again', async () => {
    const service = open(workerThat('unborn', `process.exit(3);`));
    for (let start = 0; start < 2; start++) {
      await expect(service.encodeText(LONG, plain)).rejects.toMatchObject({
        message: 'the tokenizer thread ended: exit code 3',
      });
    }
    await expect(service.encodeText(LONG, plain)).rejects.toMatchObject({
      message: 'the tokenizer thread ended twice without doing any work',
    });
    expect(await service.encodeText('short', plain)).toEqual(tokenizer.encode('short'));
  });
});
