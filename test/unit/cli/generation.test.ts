// One answer in this process: text from tokens, reasoning apart, stop texts cut off. Over the fake runner and a
// vocabulary of hardly more than single bytes, so that characters of two bytes come in halves.

import { expect, test } from 'vitest';
import { Failure } from '../../../src/base/failures.js';
import { type Ask, generate } from '../../../src/cli/generation.js';
import { NanduEngine } from '../../../src/engine/engine.js';
import { trainVocabulary } from '../../../src/text/bpe-trainer.js';
import { Tokenizer } from '../../../src/text/tokenizer.js';
import { SpecialToken } from '../../../src/text/vocabulary.js';
import { FakeRunner } from '../../fakes/fake-runner.js';
import { keepsNothing, request } from '../../fakes/requests.js';

const tokenizer = new Tokenizer(trainVocabulary('', 300));
const endToken = tokenizer.specialId(SpecialToken.END_THINK) as number;

function ask(changes: Parameters<typeof request>[0], stops: string[] = [], poisonToken?: number) {
  const runner = new FakeRunner({
    vocabularySize: 300,
    tokenBytes: (id) => (tokenizer.isSpecial(id) ? new Uint8Array(0) : tokenizer.tokenBytes(id)),
    ...(poisonToken === undefined ? {} : { poisonToken }),
  });
  const limits = { contextTokens: 1000, eosToken: 1, maxRunning: 1, maxWaiting: 0 };
  const engine = new NanduEngine(runner, { ...limits, cache: keepsNothing });
  const { onEvent: _, ...rest } = request(changes).request;
  const shown: [string, boolean][] = [];
  const sequences = stops.map((text) => new TextEncoder().encode(text));
  const asked: Ask = { ...rest, stop: { ...rest.stop, sequences } };
  const answer = generate(engine, asked, tokenizer, stops, {
    onText: (text, inReasoning) => shown.push([text, inReasoning]),
    onToken: () => {},
    onPrefill: () => {},
  });
  return { answer, shown };
}
const textOf = (ids: number[]) => tokenizer.decode(ids).text;

test('the pieces shown are the text of the tokens, whole characters only', async () => {
  const { answer, shown } = ask({ stop: { maxTokens: 200 } });
  const { tokens, text, finishReason, decodeTokensPerSecond } = await answer;
  expect(tokens.length).toBe(200);
  expect(finishReason).toBe('length');
  expect(text).toBe(textOf(tokens));
  expect(shown.map(([piece]) => piece).join('')).toBe(text);
  expect(decodeTokensPerSecond).toBeGreaterThan(0);
});

test('reasoning is kept apart from the answer, its closing tag in neither', async () => {
  const reasoning = { startsInReasoning: true, endToken, maxTokens: 20 };
  const { answer, shown } = ask({ reasoning, stop: { maxTokens: 60 } });
  const { tokens, text, reasoning: thoughts } = await answer;
  const close = tokens.indexOf(endToken);
  expect(close).toBeGreaterThan(0);
  expect(thoughts).toBe(textOf(tokens.slice(0, close)));
  expect(text).toBe(textOf(tokens.slice(close + 1)));
  expect(
    shown
      .filter(([, inReasoning]) => inReasoning)
      .map(([piece]) => piece)
      .join(''),
  ).toBe(thoughts);
});

test('a stop text ends the answer and is not part of it', async () => {
  const whole = await ask({ stop: { maxTokens: 100 } }).answer;
  const ascii = /[ -~]{2,}/.exec(whole.text);
  const stop = ascii?.[0].slice(0, 2) as string;
  const { answer, shown } = ask({ stop: { maxTokens: 100 } }, ['never', stop]);
  const { text, match, finishReason } = await answer;
  expect(finishReason).toBe('stop');
  expect(match).toEqual({ t: 'sequence', index: 1 });
  expect(text).toBe(whole.text.slice(0, whole.text.indexOf(stop)));
  expect(shown.map(([piece]) => piece).join('')).toBe(text);
});

test('a failure rejects with its reason', async () => {
  const first = await ask({ stop: { maxTokens: 1 } }).answer;
  const { answer } = ask({}, [], first.tokens[0]);
  await expect(answer).rejects.toThrow(new Failure('ENGINE_FAILURE', 'logits are not finite'));
});
