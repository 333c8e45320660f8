// One answer from an engine in this process: its text as it comes, and what it took. The server has its own in api/.

import type { Engine, EngineRequest, GeneratedToken, StopMatch } from '../engine/types.js';
import { Detokenizer } from '../text/detokenizer.js';
import { StopFilter } from '../text/stop.js';
import type { Tokenizer } from '../text/tokenizer.js';

export interface Answer {
  readonly tokens: number[];
  /** Without the stop; '' where the model has no vocabulary. */
  readonly text: string;
  readonly reasoning: string;
  readonly finishReason: 'stop' | 'length' | 'context';
  readonly match: StopMatch | null;
  /** 0 where there was too little to measure. */
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
}

export type Ask = Omit<EngineRequest, 'onEvent' | 'numChoices' | 'logprobs' | 'topLogprobs' | 'priority' | 'cache'>;

/** Rejects with the request's Failure. `onText` gets what can be shown now, `onToken` every token. */
export function generate(
  engine: Engine,
  ask: Ask,
  tokenizer: Tokenizer | null,
  stops: readonly string[],
  show: {
    onText: (text: string, inReasoning: boolean) => void;
    onToken: (id: number) => void;
    onPrefill: (done: number) => void;
  },
): Promise<Answer> {
  const writer = tokenizer ? new AnswerWriter(tokenizer, stops, show.onText) : null;
  const tokens: number[] = [];
  let beginMs = performance.now();
  let firstMs = 0;
  let lastMs = 0;
  let end: Pick<Answer, 'finishReason' | 'match'> = { finishReason: 'length', match: null };
  return new Promise((resolve, reject) => {
    const answer = (): Answer => ({
      tokens,
      text: writer?.answer ?? '',
      reasoning: writer?.reasoning ?? '',
      ...end,
      prefillTokensPerSecond: perSecond(ask.promptTokens.length, (firstMs || lastMs) - beginMs),
      decodeTokensPerSecond: perSecond(tokens.length - 1, lastMs - firstMs),
    });
    engine.start({
      ...ask,
      numChoices: 1,
      logprobs: false,
      topLogprobs: 0,
      priority: 'normal',
      cache: { read: true, write: true, scope: '', boundaries: [] },
      onEvent: (event) => {
        switch (event.t) {
          case 'queued':
          case 'restore':
            break;
          case 'prefill':
            if (event.done === 0) beginMs = performance.now();
            show.onPrefill(event.done);
            break;
          case 'tokens':
            lastMs = performance.now();
            firstMs ||= lastMs;
            for (const token of event.tokens) {
              tokens.push(token.id);
              show.onToken(token.id);
              writer?.push(token);
            }
            break;
          case 'ended':
            lastMs ||= performance.now();
            end = { finishReason: event.reason, match: event.match };
            writer?.finish(event.match);
            break;
          case 'finished':
            resolve(answer());
            break;
          case 'failed':
            reject(event.failure);
            break;
        }
      },
    });
  });
}

/** Tokens to text: whole characters only, stop texts held back, reasoning apart from the answer. */
class AnswerWriter {
  answer = '';
  reasoning = '';
  readonly #stop: StopFilter;
  #thoughts: Detokenizer;
  readonly #words: Detokenizer;

  constructor(
    tokenizer: Tokenizer,
    stops: readonly string[],
    private readonly onText: (text: string, inReasoning: boolean) => void,
  ) {
    this.#stop = new StopFilter(stops, false);
    this.#thoughts = new Detokenizer(tokenizer);
    this.#words = new Detokenizer(tokenizer);
  }

  push({ id, inReasoning }: GeneratedToken): void {
    if (inReasoning) this.#show(this.#thoughts.push(id), true);
    else this.#show(this.#stop.push(this.#words.push(id)), false);
  }

  finish(match: StopMatch | null): void {
    this.#show(this.#thoughts.finish(), true);
    const stop = match?.t === 'sequence' ? match.index : null;
    const unfinished = this.#words.finish();
    // Behind a stop text nothing is part of the answer.
    if (stop === null) this.#show(this.#stop.push(unfinished), false);
    this.#show(this.#stop.finish(stop), false);
  }

  #show(text: string, inReasoning: boolean): void {
    if (text === '') return;
    if (inReasoning) this.reasoning += text;
    else this.answer += text;
    this.onText(text, inReasoning);
  }
}

const perSecond = (tokens: number, ms: number): number => (tokens > 0 && ms > 0 ? (tokens * 1000) / ms : 0);
