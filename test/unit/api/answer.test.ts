// What a request says of its end, from the engine's events on.

import { expect, test } from 'vitest';
import { Answer } from '../../../src/api/answer.js';
import { choiceOf } from '../../../src/api/delta.js';
import type { OutputDelta } from '../../../src/api/gen/nandu/v1/OutputDelta.js';
import type { GenerateOptions } from '../../../src/api/generate-request.js';
import type { ServedModel } from '../../../src/api/model.js';
import type { Prompt } from '../../../src/api/prompt.js';
import type { Call } from '../../../src/api/rpc.js';
import type { EngineRequest, StopMatch } from '../../../src/engine/types.js';
import { SpecialToken } from '../../../src/text/vocabulary.js';
import { tokenizer } from '../text/fixtures.js';

const EOS = tokenizer.specialId('<｜end▁of▁sentence｜>') as number;
const EOS_MATCH: StopMatch = { t: 'eos', tokenId: EOS };

/** What has left when `text` is generated: a delta a token, or one at the end. '§' stands for the ｜DSML｜ token. */
function deltasOf(text: string, match: StopMatch | null, isStreamed: boolean): OutputDelta[] {
  let request: EngineRequest | null = null;
  const model = {
    text: { tokenizer },
    eosId: EOS,
    engine: {
      start: (started: EngineRequest) => {
        request = started;
        return { queuePosition: 0, cover: {} };
      },
    },
  };
  const options = {
    input: { t: 'chat' },
    numChoices: 1,
    sampling: {},
    stop: { tokenIds: [], ignoreEos: false },
    stopSequences: [],
    includeStop: false,
    output: { text: true, tokenIds: false, logprobs: false },
    cache: { boundaryAfterMessage: [] },
  };
  const prompt = { tokens: new Uint32Array(3), startsInReasoning: false, chat: null };
  const answer = new Answer(
    model as unknown as ServedModel,
    options as unknown as GenerateOptions,
    prompt as Prompt,
    1,
    { acceptedMs: 0, signal: new AbortController().signal } as Call,
  );
  const deltas: OutputDelta[] = [];
  const [choice] = answer.choices;
  const take = (): void => void deltas.push(choice?.pending.take() as OutputDelta);
  const afterToken = isStreamed ? take : () => {};
  answer.start({ onPhase: () => {}, beforeToken: () => {}, afterToken, onChoiceEnd: take });
  const ids = [...tokenizer.encode(text.replaceAll('§', SpecialToken.DSML), { parseSpecial: true })];
  if (match?.t === 'eos') ids.push(EOS);
  const tokens = ids.map((id) => ({ id, logprob: Number.NaN, top: [], inReasoning: false }));
  const { onEvent } = request as unknown as EngineRequest;
  onEvent({ t: 'tokens', choice: 0, tokens });
  const reason = match === null ? 'length' : 'stop';
  onEvent({ t: 'ended', choice: 0, reason, match, completionTokens: ids.length, reasoningTokens: 0 });
  return deltas;
}

/** The whole answer; what a stream says joins to the same. */
function endOf(text: string, match: StopMatch | null = EOS_MATCH): unknown {
  const joined = { text: '', calls: [] as string[], finishReason: '' as OutputDelta['finishReason'] };
  for (const delta of deltasOf(text, match, true)) {
    joined.text += delta.text ?? '';
    for (const { index = 0, name, argumentsJson } of delta.toolCalls ?? []) {
      joined.calls[index] = `${joined.calls[index] ?? ''}${name}${argumentsJson}`;
    }
    joined.finishReason = delta.finishReason;
  }
  const [whole] = deltasOf(text, match, false).map(choiceOf);
  const calls = whole?.toolCalls?.map(({ name, argumentsJson }) => `${name}${argumentsJson}`);
  expect({ text: whole?.text ?? '', calls, finishReason: whole?.finishReason }).toEqual(joined);
  return joined;
}

const CALL = '<§tool_calls>\n<§invoke name="f">\n<§parameter name="k" string="true">v</§parameter>\n</§invoke>\n';
const HALF = '<§tool_calls>\n<§invoke name="delete_all">\n';

test('an answer that closes every call asks for tools', () => {
  const expected = { text: 'hi', calls: ['f{"k": "v"}'], finishReason: 'FINISH_REASON_TOOL_CALLS' };
  expect(endOf(`hi\n\n${CALL}</§tool_calls>`)).toEqual(expected);
  expect(endOf(`hi\n\n${CALL}`)).toEqual(expected);
  expect(endOf(`hi\n\n${CALL}`, null)).toEqual({ ...expected, finishReason: 'FINISH_REASON_LENGTH' });
});

test('an answer that leaves a call half-way has stopped, and asks for nothing', () => {
  const stopped = { text: '', calls: ['delete_all{'], finishReason: 'FINISH_REASON_STOP' };
  expect(endOf(HALF)).toEqual(stopped);
  const malformed = '<｜DSML｜parameter name="k" string=true>v';
  expect(endOf(HALF + malformed.replace(SpecialToken.DSML, '§'))).toEqual({ ...stopped, text: `\n${malformed}` });
  expect(endOf(`${CALL}</§tool_calls>${HALF}`)).toEqual({ ...stopped, calls: ['f{"k": "v"}', 'delete_all{'] });
});

test('an answer without calls has stopped', () => {
  expect(endOf('hello')).toEqual({ text: 'hello', calls: [], finishReason: 'FINISH_REASON_STOP' });
});
