// Model output to text, reasoning and calls: whole, cut anywhere, malformed, through real tokens and as raw pieces.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
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
  const parser = new ToolCallParser((index) => `call-${index}`);
  const collected: Collected = { text: '', calls: [] };
  for (const piece of pieces) collect(collected, parser.push(piece));
  collect(collected, parser.finish());
  return collected;
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
      expect(CALLS.replaceAll(D, '｜DSML｜').startsWith(text) || text.startsWith('I look.')).toBe(true);
      for (const [index, call] of calls.entries()) {
        const whole = CALLS_EXPECTED.calls[index]?.argumentsJson as string;
        const isClosed = at >= CALLS.indexOf(`</${D}invoke>`, index * 300) + `</${D}invoke>`.length;
        if (!isClosed) expect(() => JSON.parse(call.argumentsJson || '{')).toThrow();
        else if (index === 0) expect(call.argumentsJson).toBe(whole);
      }
    }
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

  test('leaves the text of a stop token out, unless it is to be kept', () => {
    const [id] = tokenizer.encode(' the');
    const options = { ...plain, chat: null, stopTokenIds: new Set([id as number]) };
    expect(run('a b the', options).text).toBe('a b');
    expect(run('a b the', { ...options, includeStop: true }).text).toBe('a b the');
  });
});
