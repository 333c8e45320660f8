// Model output to text, reasoning and calls: whole, cut anywhere, malformed, through real tokens and as raw pieces.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkConversation } from '../../../src/text/chat-check.js';
import { ChoiceOutput, type OutputOptions } from '../../../src/text/output.js';
import { DSML_MARK, type ToolCallDelta, ToolCallParser } from '../../../src/text/tool-calls.js';
import { tokenizer } from './fixtures.js';

const D = DSML_MARK;
const CALLS =
  `I look.\n\n<${D}tool_calls>\n<${D}invoke name="get_weather">\n` +
  `<${D}parameter name="city" string="true">New "York"\n\\ 漢😀 </b></${D}parameter>\n` +
  `<${D}parameter name="days" string="false">1.50</${D}parameter>\n` +
  `<${D}parameter name="more" string="false">{"a": [1, null]}</${D}parameter>\n</${D}invoke>\n` +
  `<${D}invoke name="now">\n\n</${D}invoke>\n</${D}tool_calls>`;
const CALLS_EXPECTED = {
  text: 'I look.',
  calls: [
    {
      id: 'call-0',
      name: 'get_weather',
      argumentsJson: '{"city": "New \\"York\\"\\n\\\\ 漢😀 </b>", "days": 1.50, "more": {"a": [1, null]}}',
    },
    { id: 'call-1', name: 'now', argumentsJson: '{}' },
  ],
};

const INVOKE = `<${D}tool_calls>\n<${D}invoke name="delete_all">\n`;
const INVOKE_END = `</${D}invoke>\n</${D}tool_calls>`;

interface Collected {
  text: string;
  calls: { id: string; name: string; argumentsJson: string }[];
}

function collect(into: Collected, delta: { text: string; toolCalls: readonly ToolCallDelta[] }): void {
  into.text += delta.text;
  for (const call of delta.toolCalls) {
    const known = into.calls[call.index];
    if (known === undefined)
      into.calls[call.index] = { id: call.id, name: call.name, argumentsJson: call.argumentsJson };
    else {
      expect(call.id + call.name).toBe('');
      known.argumentsJson += call.argumentsJson;
    }
  }
}

function parse(pieces: string[]): Collected {
  return parseWhole(pieces).collected;
}

function parseWhole(pieces: string[]): { collected: Collected; hasWholeCalls: boolean } {
  const parser = new ToolCallParser((index) => `call-${index}`);
  const collected: Collected = { text: '', calls: [] };
  for (const piece of pieces) collect(collected, parser.push(piece));
  collect(collected, parser.finish());
  return { collected, hasWholeCalls: parser.hasWholeCalls };
}

/** Arguments of the only call; the text beside it. */
function onlyCall(output: string): [argumentsJson: string, text: string] {
  for (const pieces of [[output], [...output]]) expect(parse(pieces)).toEqual(parse([output]));
  const { text, calls } = parse([output]);
  expect(calls.map(({ name }) => name)).toEqual(['delete_all']);
  return [calls[0]?.argumentsJson as string, text];
}

describe('tool calls', () => {
  test('come out of the answer with every value exact', () => {
    expect(parse([CALLS])).toEqual(CALLS_EXPECTED);
    expect(JSON.parse(CALLS_EXPECTED.calls[0]?.argumentsJson as string).city).toBe('New "York"\n\\ 漢😀 </b>');
  });

  test('the mark inside a value that is JSON comes out as text', () => {
    const call = `<${D}tool_calls>\n<${D}invoke name="f">\n<${D}parameter name="a" string="false">"x${D}y"</${D}parameter>\n</${D}invoke>\n</${D}tool_calls>`;
    const [parsed] = parse([call]).calls;
    expect(JSON.parse(parsed?.argumentsJson as string)).toEqual({ a: 'x｜DSML｜y' });
  });

  test('are the same wherever the text is cut in two, and cut into single units', () => {
    for (let at = 0; at <= CALLS.length; at++) {
      // The detokenizer gives whole characters only.
      if (/[\udc00-\udfff]/.test(CALLS[at] ?? '')) continue;
      expect(parse([CALLS.slice(0, at), CALLS.slice(at)])).toEqual(CALLS_EXPECTED);
    }
    expect(parse([...CALLS])).toEqual(CALLS_EXPECTED);
  });

  test('stream a long string value piece by piece', () => {
    const parser = new ToolCallParser(() => 'id');
    parser.push(`<${D}tool_calls>\n<${D}invoke name="f">\n<${D}parameter name="k" string="true">`);
    expect(parser.push('first ').toolCalls).toEqual([{ index: 0, id: '', name: '', argumentsJson: 'first ' }]);
    expect(parser.push('"second"').toolCalls).toEqual([{ index: 0, id: '', name: '', argumentsJson: '\\"second\\"' }]);
  });

  test('that claim JSON and are not become strings', () => {
    const open = `<${D}tool_calls><${D}invoke name="f"><${D}parameter name="k" string="false">`;
    const { calls } = parse([`${open}oops</${D}parameter></${D}invoke></${D}tool_calls>`]);
    expect(calls[0]?.argumentsJson).toBe('{"k": "oops"}');
  });

  test('cut off anywhere keep what came, and never look complete', () => {
    for (let at = 0; at < CALLS.length; at++) {
      const { text, calls } = parse([CALLS.slice(0, at)]);
      expect(CALLS.replaceAll(D, '｜DSML｜').startsWith(text)).toBe(true);
      if (calls.length > 0) expect(text).toBe('I look.');
      for (const [index, call] of calls.entries()) {
        const whole = CALLS_EXPECTED.calls[index]?.argumentsJson as string;
        const isClosed = at >= CALLS.indexOf(`</${D}invoke>`, index * 300) + `</${D}invoke>`.length;
        if (!isClosed) expect(() => JSON.parse(call.argumentsJson)).toThrow();
        else if (index === 0) expect(call.argumentsJson).toBe(whole);
      }
    }
  });

  test.each([
    ['by the end', ''],
    ['by an attribute without quotes', `<${D}parameter name="k" string=true>v`],
    ['by an attribute with another value', `<${D}parameter name="k" string="True">v</${D}parameter>\n${INVOKE_END}`],
    ['by text', 'what?'],
  ])('left half-way %s are no whole calls and have no whole arguments', (_, rest) => {
    for (const pieces of [[INVOKE + rest], [...(INVOKE + rest)]]) {
      const { collected, hasWholeCalls } = parseWhole(pieces);
      expect(collected.calls).toEqual([{ id: 'call-0', name: 'delete_all', argumentsJson: '{' }]);
      expect(collected.text.trim()).toBe(rest.replaceAll(D, '｜DSML｜'));
      expect(hasWholeCalls).toBe(false);
    }
    const behindAnother = parseWhole([`<${D}tool_calls><${D}invoke name="f">${INVOKE_END}${INVOKE}${rest}`]);
    expect(behindAnother.collected.calls.map(({ argumentsJson }) => argumentsJson)).toEqual(['{}', '{']);
    expect(behindAnother.hasWholeCalls).toBe(false);
  });

  test('are whole once each is closed, whatever comes of the block', () => {
    expect(parseWhole(['no calls']).hasWholeCalls).toBe(false);
    expect(parseWhole([CALLS]).hasWholeCalls).toBe(true);
    expect(parseWhole([CALLS.slice(0, CALLS.lastIndexOf(`</${D}tool_calls>`))]).hasWholeCalls).toBe(true);
  });

  test('cut off within their markup show none of it', () => {
    const key = `<${D}parameter name="k" string="true">`;
    const behind = `${INVOKE}${key}v</${D}parameter>\n`;
    for (const tag of [`</${D}invoke>`, `<${D}parameter name="a" string="false">`]) {
      for (let at = 0; at < tag.length; at++) {
        expect(onlyCall(`hi\n\n${behind}${tag.slice(0, at)}`)).toEqual(['{"k": "v"', 'hi']);
      }
    }
    for (const tag of [`<${D}invoke name="f">`, `</${D}tool_calls>`]) {
      for (let at = 0; at < tag.length; at++) {
        expect(onlyCall(`hi\n\n${behind}</${D}invoke>\n${tag.slice(0, at)}`)).toEqual(['{"k": "v"}', 'hi']);
      }
    }
    const close = `</${D}parameter>`;
    for (let at = 0; at < close.length; at++) {
      expect(onlyCall(`${INVOKE}${key}v${close.slice(0, at)}`)).toEqual(['{"k": "v', '']);
      const number = key.replace('true', 'false');
      expect(onlyCall(`${INVOKE}${number}12${close.slice(0, at)}`)).toEqual(['{"k": 12', '']);
    }
  });

  test('are not closed by the value of an argument that was cut off', () => {
    const open = `${INVOKE}<${D}parameter name="k" string="false">`;
    expect(onlyCall(`${open}1}`)).toEqual(['{"k": ', '']);
    expect(onlyCall(`${open}1, "x": {}} `)).toEqual(['{"k": ', '']);
    expect(onlyCall(`${open}{"a": 1}`)).toEqual(['{"k": {"a": 1}', '']);
  });

  test('of any name are given out only if they can be sent back', () => {
    const names = [
      'f',
      'a b',
      'a\tb',
      'a\u0085b',
      'a\u00a0b',
      'é漢😀',
      'x'.repeat(128),
      'x'.repeat(129),
      '😀'.repeat(128),
    ];
    const whole = (name: string, parameter: string): string =>
      `<${D}tool_calls>\n<${D}invoke name="${name}">\n<${D}parameter name="${parameter}" string="true">v</${D}parameter>\n${INVOKE_END}`;
    const isTakenBack = (name: string, parameter: string): boolean => {
      const toolCalls = [{ id: '1', name, argumentsJson: JSON.stringify({ [parameter]: 'v' }) }];
      const message = { role: 'assistant' as const, content: '', reasoning: '', toolCalls, toolCallId: '' };
      const problems: string[] = [];
      checkConversation(
        { messages: [message], tools: [], reasoningEffort: 'none', continueFinalMessage: false },
        (field) => problems.push(field),
      );
      return problems.length === 0;
    };
    const refused: string[] = [];
    for (const [name, parameter] of [...names.map((n) => [n, 'k']), ...names.map((n) => ['f', n])] as [
      string,
      string,
    ][]) {
      const output = whole(name, parameter);
      expect(parse([...output])).toEqual(parse([output]));
      const { collected, hasWholeCalls } = parseWhole([output]);
      expect(hasWholeCalls).toBe(isTakenBack(name, parameter));
      if (hasWholeCalls) expect(collected.text).toBe('');
      else {
        refused.push(name === 'f' ? parameter : name);
        expect(output.replaceAll(D, '｜DSML｜').endsWith(collected.text)).toBe(true);
        expect(collected.text).toContain('name="');
        // Nor is the beginning of such a name a tag that only lacks its end.
        expect(parse([output.slice(0, output.indexOf('">', output.indexOf(refused.at(-1) as string)))]).text).not.toBe(
          '',
        );
      }
    }
    expect(refused).toEqual(['a b', 'a\tb', 'a\u0085b', 'a\u00a0b', 'x'.repeat(129), 'a\tb', 'a\u0085b']);
  });

  test('leave characters whole of which one half looks like the mark', () => {
    expect(parse(['a 𐀀 b <𐀀']).text).toBe('a 𐀀 b <𐀀');
    const call = `<${D}tool_calls><${D}invoke name="𐀀"><${D}parameter name="𐀁" string="true">𐀂</${D}parameter>${INVOKE_END}`;
    expect(parse([call]).calls).toEqual([{ id: 'call-0', name: '𐀀', argumentsJson: '{"𐀁": "𐀂"}' }]);
  });

  test.each([
    ['an unknown tag', `a\n\n<${D}tool_calls>\n<${D}wrong name="f">x`],
    ['a block without calls', `a\n\n<${D}tool_calls>\n</${D}tool_calls>`],
    ['an empty name', `a\n\n<${D}tool_calls>\n<${D}invoke name="">`],
    ['text in the block', `a\n\n<${D}tool_calls>\nhello <b>`],
    ['a lone mark', `a ${D} b <${D}x>`],
    ['only line breaks', 'a\n\n'],
    ['a cut marker', `a\n\n<${D}tool_ca`],
    ['a name without end', `<${D}tool_calls><${D}invoke name="${'x'.repeat(2000)}`],
  ])('malformed by %s stay visible as text', (_, output) => {
    for (const pieces of [[output], [...output]]) {
      expect(parse(pieces)).toEqual({ text: output.replaceAll(D, '｜DSML｜'), calls: [] });
    }
  });

  test('spelled in ordinary tokens are text', () => {
    const words = CALLS.replaceAll(D, '｜DSML｜');
    expect(parse([...words])).toEqual({ text: words, calls: [] });
  });

  test('after which the model goes on leave the rest as text, and a second block counts on', () => {
    const again = CALLS.replace('I look.', ' more');
    const { text, calls } = parse([CALLS + again]);
    expect(text).toBe('I look. more');
    expect(calls.map((call) => call.id)).toEqual(['call-0', 'call-1', 'call-2', 'call-3']);
  });

  test('of hostile shape neither crash nor depend on where the text is cut', () => {
    const part = fc.constantFrom(
      '<',
      '</',
      D,
      'tool_calls>',
      'invoke name="',
      'f',
      '">',
      'parameter name="',
      '" string="',
    );
    const more = fc.constantFrom('true">', 'false">', '1', '\n', ' ', '"', 'invoke>', 'parameter>', `<${D}tool_calls>`);
    const tags = fc.constantFrom(`<${D}invoke name="f">`, `<${D}parameter name="k" string="true">`, `</${D}invoke>`);
    fc.assert(
      fc.property(fc.array(fc.oneof(part, more, tags), { maxLength: 25 }), (parts) => {
        expect(parse(parts)).toEqual(parse([parts.join('')]));
        expect(parse([...parts.join('')])).toEqual(parse([parts.join('')]));
      }),
      { numRuns: 5000 },
    );
  });
});

describe('a choice', () => {
  const chat = { startsInReasoning: true, newCallId: (index: number) => `call-${index}` };
  const plain: OutputOptions = { chat, stopSequences: [], stopTokenIds: new Set(), includeStop: false };

  function run(text: string, options: OutputOptions, matched: number | null = null): Collected & { reasoning: string } {
    const output = new ChoiceOutput(tokenizer, options);
    const collected = { text: '', reasoning: '', calls: [] };
    for (const id of tokenizer.encode(text, { parseSpecial: true })) {
      const delta = output.push(id);
      collect(collected, delta);
      collected.reasoning += delta.reasoning;
    }
    const rest = output.finish(matched);
    collect(collected, rest);
    collected.reasoning += rest.reasoning;
    return collected;
  }

  test('is reasoning, answer and calls, told apart by the special tokens', () => {
    const text = `Hm, é.</think>${CALLS.replaceAll(D, '｜DSML｜')}<｜end▁of▁sentence｜>`;
    expect(run(text, plain)).toEqual({ ...CALLS_EXPECTED, reasoning: 'Hm, é.' });
  });

  test('has whole calls only in its answer, and only when the last one is closed', () => {
    const hasWholeCalls = (text: string, options = plain): boolean => {
      const output = new ChoiceOutput(tokenizer, options);
      for (const id of tokenizer.encode(text.replaceAll(D, '｜DSML｜'), { parseSpecial: true })) output.push(id);
      output.finish(null);
      return output.hasWholeCalls;
    };
    expect(hasWholeCalls(`</think>${CALLS}`)).toBe(true);
    expect(hasWholeCalls(`</think>${CALLS}${INVOKE}`)).toBe(false);
    expect(hasWholeCalls(CALLS)).toBe(false);
    expect(hasWholeCalls(CALLS, { ...plain, chat: null })).toBe(false);
  });

  test('that never closes its reasoning is all reasoning', () => {
    expect(run('no <b>end', plain)).toEqual({ text: '', calls: [], reasoning: 'no <b>end' });
  });

  test('in chat mode begins with the answer', () => {
    const options = { ...plain, chat: { ...chat, startsInReasoning: false } };
    expect(run('Hello\n\n', options)).toEqual({ text: 'Hello\n\n', calls: [], reasoning: '' });
  });

  test('of raw text is not parsed, and hides special tokens', () => {
    expect(run('a</think>b<｜User｜>c', { ...plain, chat: null })).toEqual({ text: 'abc', calls: [], reasoning: '' });
  });

  test('matches stop texts in the answer, not in the reasoning', () => {
    const options = { ...plain, stopSequences: ['STOP'] };
    expect(run('a STOP b</think>c STOP', options, 0)).toEqual({ text: 'c ', calls: [], reasoning: 'a STOP b' });
    expect(run('a</think>c STOP', { ...options, includeStop: true }, 0).text).toBe('c STOP');
  });

  test('matches stop texts over the token that opens markup, as native does', () => {
    const cut = (stop: string, answer: string, includeStop = false): string =>
      run(`</think>${answer}`, { ...plain, stopSequences: [stop], includeStop }, 0).text;
    expect(cut('\n\n<｜DSML｜', 'A.\n\n<｜DSML｜')).toBe('A.');
    expect(cut('<｜DSML｜tool', 'A.\n\n<｜DSML｜tool')).toBe('A.\n\n');
    expect(cut('DSML', 'A.\n\n<｜DSML｜')).toBe('A.\n\n<');
    expect(cut('<｜DS', 'A.\n\n<｜DSML｜')).toBe('A.\n\n');
    expect(cut('｜.', 'A｜DSML｜.')).toBe('A');
    expect(cut('\n<｜DSML｜', 'A.\n\n<｜DSML｜', true)).toBe('A.\n\n<｜DSML｜');
    // U+10319 begins with the unit that stands for the token, and is not it.
    expect(cut('\u{10319}.', 'A \u{10319}.')).toBe('A ');
    expect(cut('\u{10319}', 'A\u{10319}', true)).toBe('A\u{10319}');
  });

  test('leaves the text of a stop token out, unless it is to be kept', () => {
    const [id] = tokenizer.encode(' the');
    const options = { ...plain, chat: null, stopTokenIds: new Set([id as number]) };
    expect(run('a b the', options).text).toBe('a b');
    expect(run('a b the', { ...options, includeStop: true }).text).toBe('a b the');
  });
});
