// The V4 encoding against prompts written out by hand from deepseek-v4.md §5.5, and against hostile conversations.

import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { ChatEncoder, type ChatMessage, type ChatTool, type Conversation } from '../../../src/text/chat.js';
import { checkConversation } from '../../../src/text/chat-check.js';
import { jsonMembers, jsonObjectProblem, respaceJson } from '../../../src/text/json-text.js';
import { OWN_PROMPT_TEXTS, readPromptTexts } from '../../../src/text/prompt-texts.js';
import { type EncodeOptions, Tokenizer } from '../../../src/text/tokenizer.js';
import { SpecialToken, TokenType, V4_SPECIAL_TOKENS, VocabularyError } from '../../../src/text/vocabulary.js';
import { tokenizer, vocabulary } from './fixtures.js';

const texts = { toolsHeader: '[TOOLS <｜DSML｜>]\n', toolsFooter: '[END TOOLS]\n', effortHigh: '', effortMax: '[MAX]' };
const encoder = new ChatEncoder(tokenizer, texts);

const message = (role: ChatMessage['role'], content: string, more: Partial<ChatMessage> = {}): ChatMessage => ({
  role,
  content,
  reasoning: '',
  toolCalls: [],
  toolCallId: '',
  ...more,
});
const system = (content: string) => message('system', content);
const developer = (content: string) => message('developer', content);
const user = (content: string) => message('user', content);
const assistant = (content: string, more: Partial<ChatMessage> = {}) => message('assistant', content, more);
const result = (toolCallId: string, content: string) => message('tool', content, { toolCallId });
const call = (id: string, name: string, argumentsJson: string) => ({ id, name, argumentsJson });

const TOOL: ChatTool = { name: 'f', description: 'does "f"', parametersJson: '{"type":"object","n":1.0}' };

function conversation(messages: ChatMessage[], more: Partial<Conversation> = {}): Conversation {
  return { messages, tools: [], reasoningEffort: 'none', continueFinalMessage: false, ...more };
}

/** Short names for the markers, so that the expected prompts can be read. */
function refusedFields(chat: Conversation): string[] {
  const fields: string[] = [];
  checkConversation(chat, (field) => fields.push(field));
  return fields;
}

function readable(text: string): string {
  return text
    .replaceAll(SpecialToken.BOS, '[BOS]')
    .replaceAll(SpecialToken.EOS, '[EOS]')
    .replaceAll(SpecialToken.USER, '[U]')
    .replaceAll(SpecialToken.ASSISTANT, '[A]')
    .replaceAll(SpecialToken.DSML, '|D|');
}

function render(messages: ChatMessage[], more: Partial<Conversation> = {}): string {
  const chat = conversation(messages, more);
  expect(refusedFields(chat)).toEqual([]);
  const encoded = encoder.encode(chat);
  // Markers are special tokens, and the tokens are the text.
  expect(tokenizer.decode(encoded.tokens, { showSpecial: true }).text).toBe(encoded.renderedText);
  return readable(encoded.renderedText);
}

const think = { reasoningEffort: 'high' } as const;

describe('chat mode', () => {
  test('closes the reasoning before every answer', () => {
    expect(render([user('hi')])).toBe('[BOS][U]hi[A]</think>');
    expect(render([system('S'), user('a'), assistant('b'), user('c')])).toBe(
      '[BOS]S[U]a[A]</think>b[EOS][U]c[A]</think>',
    );
  });

  test('leaves stored reasoning out', () => {
    expect(render([user('a'), assistant('b', { reasoning: 'r' }), user('c')])).toBe(
      '[BOS][U]a[A]</think>b[EOS][U]c[A]</think>',
    );
  });

  test('keeps system messages in their places', () => {
    expect(render([system('S'), user('a'), assistant('b'), system('T'), user('c')])).toBe(
      '[BOS]S[U]a[A]</think>b[EOS]T[U]c[A]</think>',
    );
  });

  test('gives developer messages a turn of their own, and merges consecutive users', () => {
    expect(render([developer('d'), user('a'), user('b')])).toBe('[BOS][U]d[U]a\n\nb[A]</think>');
  });
});

describe('thinking mode', () => {
  test('opens the reasoning', () => {
    for (const reasoningEffort of ['low', 'medium', 'high'] as const) {
      expect(render([user('hi')], { reasoningEffort })).toBe('[BOS][U]hi[A]<think>');
    }
  });

  test('drops reasoning and developer messages before the last question, and keeps what is after it', () => {
    const history = [user('a'), assistant('b', { reasoning: 'r' }), developer('d'), user('c')];
    expect(render(history, think)).toBe('[BOS][U]a[A]</think>b[EOS][U]c[A]<think>');
    expect(render([user('a'), assistant('b', { reasoning: 'r' })], think)).toBe(
      '[BOS][U]a[A]<think>r</think>b[EOS][A]<think>',
    );
    expect(render([user('a'), assistant('b', { reasoning: 'r' }), developer('d')], think)).toBe(
      '[BOS][U]a[A]</think>b[EOS][U]d[A]<think>',
    );
  });

  test('keeps all reasoning when there are tools', () => {
    const prompt = render([system('S'), user('a'), assistant('b', { reasoning: 'r' }), user('c')], {
      ...think,
      tools: [TOOL],
    });
    expect(prompt).toContain('[U]a[A]<think>r</think>b[EOS][U]c[A]<think>');
  });

  test('keeps reasoning and developer messages when tools are defined that may not be called', () => {
    const history = [developer('d'), user('a'), assistant('b', { reasoning: 'r' }), user('c')];
    expect(render(history, { ...think, definesTools: true })).toBe(
      '[BOS][U]d[U]a[A]<think>r</think>b[EOS][U]c[A]<think>',
    );
    expect(render(history, { ...think, definesTools: false })).toBe('[BOS][U]a[A]</think>b[EOS][U]c[A]<think>');
  });

  test('at high effort begins with the text that asks for it, where the model file has one', () => {
    const encoderOf0731 = new ChatEncoder(tokenizer, { ...texts, effortHigh: '[HIGH]' });
    const promptAt = (reasoningEffort: Conversation['reasoningEffort']): string =>
      readable(encoderOf0731.encode(conversation([system('S'), user('a')], { reasoningEffort })).renderedText);
    expect(promptAt('high')).toBe('[BOS][HIGH]S[U]a[A]<think>');
    expect(promptAt('max')).toBe('[BOS][MAX]S[U]a[A]<think>');
    for (const effort of ['low', 'medium'] as const) expect(promptAt(effort)).toBe('[BOS]S[U]a[A]<think>');
    expect(promptAt('none')).toBe('[BOS]S[U]a[A]</think>');
  });

  test('at the most effort begins with the text that asks for it', () => {
    expect(render([system('S'), user('a')], { reasoningEffort: 'max' })).toBe('[BOS][MAX]S[U]a[A]<think>');
  });
});

describe('tools', () => {
  const schemaLine = '{"name": "f", "description": "does \\"f\\"", "parameters": {"type": "object", "n": 1.0}}\n';

  test('are listed behind the first system text, one schema a line', () => {
    expect(render([system('S'), user('a')], { tools: [TOOL, { ...TOOL, name: 'g', description: '' }] })).toBe(
      `[BOS]S\n\n[TOOLS <|D|>]\n${schemaLine}` +
        '{"name": "g", "parameters": {"type": "object", "n": 1.0}}\n[END TOOLS]\n[U]a[A]</think>',
    );
    expect(render([user('a')], { tools: [{ name: 'g', description: '', parametersJson: '' }] })).toBe(
      '[BOS]\n\n[TOOLS <|D|>]\n{"name": "g"}\n[END TOOLS]\n[U]a[A]</think>',
    );
  });

  test('called before are written in DSML: strings as they are, all else as JSON', () => {
    const calls = [call('1', 'f', '{"s":"a\\n\\"b\\u00e9","n":[1,2.50,{"k":null}],"t":true}'), call('2', 'g', '')];
    expect(render([user('a'), assistant('', { toolCalls: calls }), result('1', 'x'), result('2', 'y')])).toBe(
      '[BOS][U]a[A]</think>\n\n<|D|tool_calls>\n<|D|invoke name="f">\n' +
        '<|D|parameter name="s" string="true">a\n"bé</|D|parameter>\n' +
        '<|D|parameter name="n" string="false">[1, 2.50, {"k": null}]</|D|parameter>\n' +
        '<|D|parameter name="t" string="false">true</|D|parameter>\n</|D|invoke>\n' +
        '<|D|invoke name="g">\n\n</|D|invoke>\n</|D|tool_calls>[EOS]' +
        '[U]<tool_result>x</tool_result>\n\n<tool_result>y</tool_result>[A]</think>',
    );
  });

  test('results stand in the order of the calls, users between them stay where they are', () => {
    const toolCalls = ['1', '2', '3'].map((id) => call(id, 'f', '{}'));
    const prompt = render([
      user('a'),
      assistant('', { toolCalls }),
      result('3', 'three'),
      user('wait'),
      result('1', 'one'),
      result('2', 'two'),
    ]);
    const results = ['one', 'two', 'three'].map((text) => `<tool_result>${text}</tool_result>`);
    expect(prompt).toContain(`[EOS][U]${results[0]}\n\nwait\n\n${results[1]}\n\n${results[2]}[A]`);
  });
});

describe('a continued message', () => {
  const open = { continueFinalMessage: true } as const;

  test('stays open', () => {
    expect(render([user('a'), assistant('The ans')], open)).toBe('[BOS][U]a[A]</think>The ans');
    expect(render([user('a'), assistant('The', { reasoning: 'r' })], { ...open, ...think })).toBe(
      '[BOS][U]a[A]<think>r</think>The',
    );
  });

  test('without answer text goes on in its reasoning', () => {
    const chat = conversation([user('a'), assistant('', { reasoning: 'so far' })], { ...open, ...think });
    const encoded = encoder.encode(chat);
    expect(readable(encoded.renderedText)).toBe('[BOS][U]a[A]<think>so far');
    expect(encoded.startsInReasoning).toBe(true);
  });
});

test('startsInReasoning says whether the prompt ends in an open reasoning', () => {
  const starts = (more: Partial<Conversation>): boolean =>
    encoder.encode(conversation([user('a')], more)).startsInReasoning;
  expect(starts({})).toBe(false);
  expect(starts(think)).toBe(true);
  const answered = conversation([user('a'), assistant('b')], { ...think, continueFinalMessage: true });
  expect(encoder.encode(answered).startsInReasoning).toBe(false);
});

test('an append-only conversation keeps its tokens: each prompt begins with the one before', () => {
  const messages = [system('S'), user('a'), assistant('b'), user('c'), assistant('d'), user('e')];
  let before = '';
  for (const count of [2, 4, 6]) {
    const { renderedText } = encoder.encode(conversation(messages.slice(0, count)));
    expect(renderedText.startsWith(before)).toBe(true);
    before = renderedText;
  }
});

test('setupEnd is where the system messages and the tools end, and the same whatever follows', () => {
  const setupOf = (chat: Conversation): string => {
    const { tokens, setupEnd } = encoder.encode(chat);
    return readable(tokenizer.decode(tokens.subarray(0, setupEnd), { showSpecial: true }).text);
  };
  const one = conversation([system('Be brief.'), user('hi')]);
  expect(setupOf(one)).toBe(readable(`${SpecialToken.BOS}Be brief.`));
  expect(setupOf(conversation([system('Be brief.'), user('what else?'), assistant('no')]))).toBe(setupOf(one));
  expect(setupOf(conversation([system('Be brief.'), system('Be brief.'), user('hi')]))).toContain('Be brief.Be brief.');
  const withTools = setupOf({ ...one, tools: [TOOL] });
  expect(withTools).toContain('"name": "f"');
  expect(withTools.endsWith('hi')).toBe(false);
  expect(setupOf({ ...conversation([user('hi')]), tools: [TOOL] })).toContain('"name": "f"');
  expect(setupOf(conversation([user('hi')]))).toBe(readable(SpecialToken.BOS));
  // Nothing but a system message: all of it is setup, but for what opens the answer.
  expect(setupOf(conversation([system('Be brief.')]))).toBe(setupOf(one));
});

test('messageEnds counts the tokens that lie wholly before the end of each message', () => {
  const messages = [system('You are.'), user('one'), user('two three'), assistant('four'), user('five')];
  const { tokens, messageEnds } = encoder.encode(conversation(messages));
  const upTo = (index: number): string =>
    readable(tokenizer.decode(tokens.subarray(0, messageEnds[index]), { showSpecial: true }).text);
  expect(upTo(0)).toBe('[BOS]You are.');
  expect(upTo(1)).toBe('[BOS]You are.[U]one');
  expect(upTo(2)).toBe('[BOS]You are.[U]one\n\ntwo three');
  expect(upTo(3)).toBe('[BOS]You are.[U]one\n\ntwo three[A]</think>four[EOS]');
  expect(upTo(4)).toBe('[BOS]You are.[U]one\n\ntwo three[A]</think>four[EOS][U]five');
  const forgotten = conversation([user('a'), developer('d'), user('b')], think);
  const ends = encoder.encode(forgotten).messageEnds;
  expect(ends[1]).toBe(ends[0]);
});

test('messageEnds is where a message ends in the prompt, also of tool results in another order', () => {
  const toolCalls = [call('a', 'f', '{}'), call('b', 'f', '{}')];
  const messages = [user('q'), assistant('', { toolCalls }), result('b', 'of B'), result('a', 'of A'), user('and?')];
  const { tokens, messageEnds } = encoder.encode(conversation(messages));
  const upTo = (index: number): string =>
    readable(tokenizer.decode(tokens.subarray(0, messageEnds[index]), { showSpecial: true }).text);
  const resultA = `${upTo(1)}[U]<tool_result>of A</tool_result>`;
  const resultB = `${resultA}\n\n<tool_result>of B</tool_result>`;
  // A token may reach over the end of a message.
  expect(resultA.startsWith(upTo(3))).toBe(true);
  expect(upTo(3)).toContain('of A</tool_result');
  expect(resultB.startsWith(upTo(2))).toBe(true);
  expect(upTo(2)).toContain('of B</tool_result');
  expect(upTo(4)).toBe(`${resultB}\n\nand?`);
});

describe('the work grows with the conversation, and no faster:', () => {
  /** The same list, counting the looks at its items. */
  const counting = <T>(items: T[], counter: { looks: number }): T[] =>
    new Proxy(items, {
      get(target, key, receiver) {
        if (typeof key === 'string' && /^\d+$/.test(key)) counter.looks++;
        return Reflect.get(target, key, receiver);
      },
    });

  test('many turns of tool results', () => {
    const counter = { looks: 0 };
    const messages = Array.from({ length: 1000 }, (_, turn) => [
      assistant('', { toolCalls: [call(`${turn}a`, 'f', ''), call(`${turn}b`, 'f', '')] }),
      result(`${turn}b`, 'x'),
      result(`${turn}a`, 'y'),
    ]).flat();
    encoder.encode(conversation(counting(messages, counter)));
    expect(counter.looks).toBeGreaterThan(0);
    expect(counter.looks).toBeLessThan(20 * messages.length);
  });

  test('many calls of one message, answered in many turns', () => {
    const counter = { looks: 0 };
    const toolCalls = Array.from({ length: 2000 }, (_, i) => call(`${i}`, 'f', ''));
    const results = toolCalls.map(({ id }) => result(id, 'x'));
    const messages = results.flatMap((one, i) => (i % 2 ? [one, system('s')] : [one]));
    encoder.encode(conversation([assistant('', { toolCalls: counting(toolCalls, counter) }), ...messages]));
    expect(counter.looks).toBeGreaterThan(0);
    expect(counter.looks).toBeLessThan(20 * toolCalls.length);
  });

  test('many results in one turn, the last call first', () => {
    const toolCalls = Array.from({ length: 2000 }, (_, i) => call(`${i}`, 'f', ''));
    const results = toolCalls.map(({ id }) => result(id, 'x')).reverse();
    const looks = vi.spyOn(tokenizer, 'tokenBytes');
    try {
      const { tokens } = encoder.encode(conversation([assistant('', { toolCalls }), ...results]));
      expect(looks.mock.calls.length).toBeLessThan(tokens.length + 2 * results.length);
    } finally {
      looks.mockRestore();
    }
  });
});

describe('a conversation is not even written out', () => {
  /** How many messages were read before the encoder stopped, and what it made of them. */
  const readsOf = (
    messages: ChatMessage[],
    options: EncodeOptions,
  ): { reads: number; tokens: number; ends: number[] } => {
    let reads = 0;
    const watched = messages.map((original) => ({
      ...original,
      get content() {
        reads++;
        return original.content;
      },
    }));
    const { tokens, messageEnds } = encoder.encode(conversation(watched), options);
    return { reads, tokens: tokens.length, ends: [...messageEnds] };
  };
  const shapes = {
    'as turns': Array.from({ length: 20_000 }, (_, i) => (i % 2 ? assistant('yes') : user('no?'))),
    'as one turn': Array.from({ length: 20_000 }, () => user('and then? '.repeat(10))),
  };

  test.each(Object.entries(shapes))('%s, beyond maxTokens: the result is longer than that', (_, messages) => {
    for (const maxTokens of [0, 1, 100]) {
      const { reads, tokens, ends } = readsOf(messages, { maxTokens });
      expect(tokens).toBeGreaterThan(maxTokens);
      expect(reads).toBeLessThan(1000);
      // What was left out counts as behind the last token.
      expect(ends.at(-1)).toBe(tokens);
    }
  });

  test.each(Object.entries(shapes))('%s, once it is cancelled', (_, messages) => {
    let asked = 0;
    const { reads } = readsOf(messages, { isCancelled: () => ++asked > 0 });
    expect(asked).toBeGreaterThan(0);
    expect(reads).toBeLessThan(5000);
  });

  test('nor a long list of tools, calls or arguments', () => {
    const names = Array.from({ length: 5000 }, (_, i) => `f${i}`);
    const args = JSON.stringify(Object.fromEntries(names.map((name) => [name, 1])));
    for (const chat of [
      conversation([user('a')], { tools: names.map((name) => ({ ...TOOL, name })) }),
      conversation([assistant('', { toolCalls: names.map((name) => call(name, name, '')) })]),
      conversation([assistant('', { toolCalls: [call('1', 'f', args)] })]),
    ]) {
      const { tokens, renderedText } = encoder.encode(chat, { maxTokens: 20 });
      expect(tokens.length).toBeGreaterThan(20);
      expect(renderedText.length).toBeLessThan(5000);
    }
  });

  test('and one that just fits is whole', () => {
    const chat = conversation(
      Array.from({ length: 50 }, (_, i) => (i % 2 ? assistant('b'.repeat(i)) : user(SpecialToken.BOS.repeat(i)))),
    );
    const whole = encoder.encode(chat);
    expect(encoder.encode(chat, { maxTokens: whole.tokens.length })).toEqual(whole);
  });
});

test('maxTokens bounds the work', () => {
  const chat = conversation(
    Array.from({ length: 2000 }, (_, i) => (i % 2 ? assistant('b'.repeat(50)) : user('a b c'))),
  );
  const { tokens } = encoder.encode(chat, { maxTokens: 100 });
  expect(tokens.length).toBeGreaterThan(100);
  expect(tokens.length).toBeLessThan(200);
});

describe('what a caller wrote', () => {
  const markers = fc.constantFrom(...V4_SPECIAL_TOKENS, '</tool_result>', `</${SpecialToken.DSML}parameter>`, '\n\n');
  const text = fc
    .array(fc.oneof(markers, fc.string({ unit: 'binary' })), { maxLength: 5 })
    .map((parts) => parts.join(''));
  const anyMessage = fc.oneof(
    text.map(system),
    text.map(user),
    fc
      .tuple(text, text, fc.dictionary(fc.stringMatching(/^[a-z]{1,5}$/), fc.jsonValue()))
      .map(([content, reasoning, args]) =>
        assistant(content, { reasoning, toolCalls: [call(`id${content}${reasoning}`, 'f', JSON.stringify(args))] }),
      ),
  );

  test('never becomes a marker, in any field', () => {
    fc.assert(
      fc.property(
        fc.array(anyMessage, { minLength: 1, maxLength: 5 }),
        fc.constantFrom('none', 'high', 'max'),
        (messages, effort) => {
          const chat = conversation(messages, { reasoningEffort: effort as 'none', tools: [TOOL] });
          const { tokens, renderedText } = encoder.encode(chat);
          expect(tokenizer.decode(tokens, { showSpecial: true }).text).toBe(
            renderedText.replace(/\p{Surrogate}/gu, '\ufffd'),
          );
          const count = (marker: string): number => tokens.filter((id) => id === tokenizer.specialId(marker)).length;
          const assistants = messages.filter(({ role }) => role === 'assistant').length;
          expect(count(SpecialToken.BOS)).toBe(1);
          expect(count(SpecialToken.EOS)).toBe(assistants);
          expect(count(SpecialToken.ASSISTANT)).toBe(assistants + 1);
          const userTurns = messages.filter(
            ({ role }, i) => role === 'user' && messages[i - 1]?.role !== 'user',
          ).length;
          expect(count(SpecialToken.USER)).toBe(userTurns);
          const numParameters = messages
            .flatMap(({ toolCalls }) => toolCalls)
            .flatMap((c) => jsonMembers(c.argumentsJson)).length;
          expect(count(SpecialToken.DSML)).toBe(1 + assistants * 4 + numParameters * 2);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('of any shape is either encoded or refused by field', () => {
    const wild = fc.record({
      role: fc.constantFrom('system', 'developer', 'user', 'assistant', 'tool', null) as fc.Arbitrary<
        ChatMessage['role']
      >,
      content: text,
      reasoning: fc.constantFrom('', 'r'),
      toolCalls: fc.array(
        fc.record({
          id: fc.constantFrom('', '1', '2'),
          name: fc.constantFrom('f', '', '"'),
          argumentsJson: fc.oneof(fc.json(), text),
        }),
        { maxLength: 2 },
      ),
      toolCallId: fc.constantFrom('', '1', '2'),
    });
    fc.assert(
      fc.property(fc.array(wild, { maxLength: 4 }), fc.boolean(), (messages, continueFinalMessage) => {
        const chat = conversation(messages, { continueFinalMessage });
        const violations = refusedFields(chat);
        for (const field of violations) expect(field).toMatch(/^chat\.(messages|tools|continue_final_message)/);
        if (violations.length === 0) encoder.encode(chat);
      }),
      { numRuns: 2000 },
    );
  });
});

describe('a bad conversation is refused by field:', () => {
  const fields = (messages: ChatMessage[], more: Partial<Conversation> = {}): string[] =>
    refusedFields(conversation(messages, more));
  const called = assistant('', { toolCalls: [call('1', 'f', '{}')] });

  test.each([
    ['no messages', [], ['chat.messages']],
    ['no role', [message(null, 'x')], ['chat.messages[0].role']],
    ['empty developer text', [developer('')], ['chat.messages[0].content']],
    ['reasoning of a user', [message('user', 'x', { reasoning: 'r' })], ['chat.messages[0].reasoning']],
    ['calls of a user', [message('user', 'x', { toolCalls: [call('1', 'f', '')] })], ['chat.messages[0].tool_calls']],
    ['a call id on a user', [message('user', 'x', { toolCallId: '1' })], ['chat.messages[0].tool_call_id']],
    ['a result without id', [user('a'), called, result('', 'x')], ['chat.messages[2].tool_call_id']],
    ['a result without call', [user('a'), result('1', 'x')], ['chat.messages[1].tool_call_id']],
    ['a result of an older call', [called, assistant('b'), result('1', 'x')], ['chat.messages[2].tool_call_id']],
    ['two results of one call', [called, result('1', 'x'), result('1', 'x')], ['chat.messages[2].tool_call_id']],
    ['an id used twice', [called, result('1', 'x'), called], ['chat.messages[2].tool_calls[0].id']],
    ['no call id', [assistant('', { toolCalls: [call('', 'f', '')] })], ['chat.messages[0].tool_calls[0].id']],
    [
      'a bad call name',
      [assistant('', { toolCalls: [call('1', 'a"b', '')] })],
      ['chat.messages[0].tool_calls[0].name'],
    ],
    [
      'cut JSON',
      [assistant('', { toolCalls: [call('1', 'f', '{"a":')] })],
      ['chat.messages[0].tool_calls[0].arguments_json'],
    ],
    [
      'a JSON list',
      [assistant('', { toolCalls: [call('1', 'f', '[]')] })],
      ['chat.messages[0].tool_calls[0].arguments_json'],
    ],
    [
      'a quoted key',
      [assistant('', { toolCalls: [call('1', 'f', '{"\\"":1}')] })],
      ['chat.messages[0].tool_calls[0].arguments_json'],
    ],
    ['all at once', [message(null, ''), result('9', '')], ['chat.messages[0].role', 'chat.messages[1].tool_call_id']],
  ])('%s', (_, messages, expected) => {
    expect(fields(messages as ChatMessage[])).toEqual(expected);
  });

  test('tools with bad names, twice the same, or bad schemas', () => {
    const tools = [TOOL, TOOL, { ...TOOL, name: '' }, { ...TOOL, name: 'g', parametersJson: '{' }];
    expect(fields([user('a')], { tools })).toEqual([
      'chat.tools[1].name',
      'chat.tools[2].name',
      'chat.tools[3].parameters_json',
    ]);
  });

  test("continuing what is not the assistant's, or ends in calls", () => {
    expect(fields([user('a')], { continueFinalMessage: true })).toEqual(['chat.continue_final_message']);
    expect(fields([user('a'), called], { continueFinalMessage: true })).toEqual(['chat.messages[1].tool_calls']);
  });

  test('a thousand faults give a bounded list', () => {
    expect(fields(Array.from({ length: 1000 }, () => message(null, ''))).length).toBe(1000);
  });
});

describe('JSON text', () => {
  test('is respaced as Python writes it, and nothing else changes', () => {
    expect(respaceJson(' {"b" :1.0,\n"a":[ ] ,"s":"x , y : \\" {","n":[1e5,-0,{"z":{}}]}\t')).toBe(
      '{"b": 1.0, "a": [], "s": "x , y : \\" {", "n": [1e5, -0, {"z": {}}]}',
    );
  });

  test('means the same after respacing, and respacing twice is respacing once', () => {
    fc.assert(
      fc.property(fc.json(), fc.integer({ min: 0, max: 4 }), (json, indent) => {
        const spaced = JSON.stringify(JSON.parse(json), null, indent);
        const out = respaceJson(spaced);
        expect(JSON.parse(out)).toEqual(JSON.parse(json));
        expect(respaceJson(out)).toBe(out);
      }),
    );
  });

  test('members are those of the object, in order', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.integer({ min: 0, max: 3 }), (object, indent) => {
        const members = jsonMembers(JSON.stringify(object, null, indent));
        expect(members.map(({ key }) => key)).toEqual(Object.keys(object));
        expect(members.map(({ value }) => JSON.stringify(JSON.parse(value)))).toEqual(
          Object.values(object).map((v) => JSON.stringify(v)),
        );
      }),
    );
  });

  test('nested a million deep or cut off is a problem named in one line, not a crash', () => {
    expect(jsonObjectProblem('['.repeat(1_000_000))).toMatch(/^is not JSON/);
    expect(jsonObjectProblem('{"a": 1,}')).toMatch(/^is not JSON \(at character \d+\)$/);
    expect(jsonObjectProblem('null')).toBe('is not a JSON object');
    expect(jsonObjectProblem(' {} ')).toBe(null);
  });
});

describe('fixed texts', () => {
  const TEMPLATE = `{{- bos_token -}}
{%- if thinking and reasoning_effort == 'max' -%}{{- 'Very hard.\\n\\n' -}}{%- endif -%}
{%- for message in messages -%}{%- if message['role'] == 'system' -%}{{- message['content'] -}}{%- endif -%}{%- endfor -%}
{%- if tools -%}{{- '\\n\\nTOOLS <｜DSML｜x>\\n' -}}
{%- for tool in tools -%}{{- (tool['function'] | tojson) + '\\n' -}}{%- endfor -%}{{- 'Obey.\\n' -}}{%- endif -%}
{%- for message in messages -%}{%- if message['role'] == 'user' -%}{{- '<｜User｜>' + message['content'] -}}{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<｜Assistant｜>' -}}{%- endif -%}`;

  test('come from the model file when its template shows them', () => {
    expect(readPromptTexts(TEMPLATE)).toEqual({
      toolsHeader: 'TOOLS <｜DSML｜x>\n',
      toolsFooter: 'Obey.\n',
      effortHigh: '',
      effortMax: 'Very hard.\n\n',
    });
  });

  test('for high effort come from the model file, and there is none without it', () => {
    const high = `{%- if thinking and reasoning_effort == 'high' -%}{{- 'Hard.\\n\\n' -}}{%- endif -%}`;
    const ofBoth = readPromptTexts(TEMPLATE.replace('{{- bos_token -}}', `{{- bos_token -}}\n${high}`));
    expect(ofBoth).toEqual({ ...readPromptTexts(TEMPLATE), effortHigh: 'Hard.\n\n' });
    expect(OWN_PROMPT_TEXTS.effortHigh).toBe('');
  });

  test('are our own when it has no template, a broken one, or one that shows nothing', () => {
    for (const template of [
      undefined,
      '',
      '{% if %}',
      '{{ raise_exception("no") }}',
      'x',
      '{{ messages[9].content }}',
    ]) {
      expect(readPromptTexts(template)).toEqual(OWN_PROMPT_TEXTS);
    }
    expect(readPromptTexts(TEMPLATE.replace("'Very hard.\\n\\n'", "''")).effortMax).toBe(OWN_PROMPT_TEXTS.effortMax);
  });

  test('become special tokens where they spell them', () => {
    const { tokens } = new ChatEncoder(tokenizer).encode(conversation([user('a')], { tools: [TOOL] }));
    expect(tokens.filter((id) => id === tokenizer.specialId(SpecialToken.DSML)).length).toBeGreaterThan(4);
  });
});

test('a vocabulary without a marker cannot encode chats, and the error names it', () => {
  const tokenTypes = Array.from(vocabulary.tokenTypes, (type, id) => (id === 4 ? TokenType.NORMAL : type));
  const other = new Tokenizer({ ...vocabulary, tokenTypes });
  expect(() => new ChatEncoder(other)).toThrow(VocabularyError);
  expect(() => new ChatEncoder(other)).toThrow('tokenizer.ggml.tokens: has no special token "<｜Assistant｜>"');
});
