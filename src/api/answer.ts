// One accepted request on its way through the engine: engine events in; text, counts and times out. Knows nothing of
// messages on the wire; stream.ts and generation.ts listen.

import { randomBytes } from 'node:crypto';
import { Failure } from '../base/failures.js';
import type { EngineEvent, EngineRequest, GeneratedToken, StartedRequest } from '../engine/types.js';
import type { CacheCover, CacheUse } from '../kv/types.js';
import { ChoiceOutput } from '../text/output.js';
import { SpecialToken } from '../text/vocabulary.js';
import { PendingDelta, stopMatchMessage, type TokenBytes } from './delta.js';
import type { FinishReason } from './gen/nandu/v1/FinishReason.js';
import type { CacheOptions, GenerateOptions } from './generate-request.js';
import type { ServedModel } from './model.js';
import type { Prompt } from './prompt.js';
import type { Call } from './rpc.js';

export type AnswerPhase = 'queued' | 'restoring' | 'prefill' | 'decode';

export interface AnswerListener {
  /** Another phase than before. */
  onPhase(): void;
  /** `pending` is about to grow by a token, and has grown by it. */
  beforeToken(pending: PendingDelta): void;
  afterToken(pending: PendingDelta): void;
  /** `pending` now holds the end of its choice. */
  onChoiceEnd(pending: PendingDelta): void;
}

const FINISH_REASONS: Readonly<Record<'stop' | 'length' | 'context', FinishReason>> = {
  stop: 'FINISH_REASON_STOP',
  length: 'FINISH_REASON_LENGTH',
  context: 'FINISH_REASON_CONTEXT',
};

interface ChoiceState {
  readonly pending: PendingDelta;
  /** null: no text wanted, or none to be had. */
  readonly output: ChoiceOutput | null;
}

/** Milliseconds on the monotonic clock; null: not reached. */
export interface AnswerTimes {
  readonly acceptedMs: number;
  admittedMs: number | null;
  firstTokenMs: number | null;
  endedMs: number | null;
}

export class Answer {
  phase: AnswerPhase = 'queued';
  queuePosition = 0;
  promptTokensDone = 0;
  /** Sampled so far, of all choices; what the engine says once it has ended. */
  completionTokens = 0;
  reasoningTokens = 0;
  /** What the cache held at acceptance; null: not accepted. */
  cover: CacheCover | null = null;
  /** What came of it; null: not over, or over before it began. */
  use: CacheUse | null = null;
  readonly choices: readonly ChoiceState[];
  readonly times: AnswerTimes;
  /** Resolves after the last event; rejects with what the client is to be told. */
  readonly done: Promise<void>;
  #resolve: () => void = () => {};
  #reject: (reason: unknown) => void = () => {};
  #isSettled = false;

  constructor(
    readonly model: ServedModel,
    readonly options: GenerateOptions,
    readonly prompt: Prompt,
    readonly seed: number,
    private readonly call: Call,
  ) {
    this.times = { acceptedMs: call.acceptedMs, admittedMs: null, firstTokenMs: null, endedMs: null };
    this.choices = Array.from({ length: options.numChoices }, (_, index) => this.#newChoice(index));
    this.done = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.done.catch(() => {}); // whoever waits gets it; nobody waits when start() throws
  }

  /**
   * Hands the request to the engine, or throws why it cannot be taken. Nothing is told to `listener` before it returns what
   * the cache holds for the prompt.
   */
  start(listener: AnswerListener): CacheCover {
    const { signal } = this.call;
    const onEvent = (event: EngineEvent): void => {
      if (this.#isSettled) return;
      try {
        this.#onEvent(event, listener);
      } catch (error) {
        this.#settle(() => this.#reject(error));
        this.call.abort(new Failure('ENGINE_FAILURE', 'the server failed; see its log'));
      }
    };
    const { queuePosition, cover } = this.#startEngine({ ...this.#engineRequest(), signal, onEvent });
    this.queuePosition = queuePosition;
    this.cover = cover;
    // The client is told at once; the engine needs the rest of its step to hear of it.
    if (signal.aborted) this.#settle(() => this.#reject(signal.reason));
    else signal.addEventListener('abort', () => this.#settle(() => this.#reject(signal.reason)), { once: true });
    return cover;
  }

  #startEngine(request: EngineRequest): StartedRequest {
    try {
      return this.model.engine.start(request);
    } catch (error) {
      if (!(error instanceof Failure) || error.reason !== 'CONTEXT_LENGTH_EXCEEDED' || error.facts.violations)
        throw error;
      // The engine counts blocks; the client is told which field asks for them.
      const field = request.numChoices > 1 ? 'sampling.n' : this.options.inputField;
      const violations = [{ field, description: error.message }];
      throw new Failure(error.reason, error.message, { ...error.facts, violations });
    }
  }

  #onEvent(event: EngineEvent, listener: AnswerListener): void {
    switch (event.t) {
      case 'queued':
        this.queuePosition = event.position;
        break;
      case 'restore':
        this.#work('restoring', event.done, listener);
        break;
      case 'prefill':
        this.#work('prefill', event.done, listener);
        break;
      case 'tokens':
        this.promptTokensDone = this.prompt.tokens.length;
        this.times.firstTokenMs ??= performance.now();
        this.#enter('decode', listener);
        this.#onTokens(this.#choice(event.choice), event.tokens, listener);
        break;
      case 'ended':
        this.#onChoiceEnd(event, listener);
        break;
      case 'finished':
        this.times.endedMs = performance.now();
        this.use = event.use;
        this.#settle(this.#resolve);
        break;
      case 'failed':
        this.use = event.use;
        this.#settle(() => this.#reject(event.failure));
        break;
    }
  }

  #work(phase: 'restoring' | 'prefill', promptTokensDone: number, listener: AnswerListener): void {
    this.queuePosition = 0;
    this.promptTokensDone = promptTokensDone;
    this.times.admittedMs ??= performance.now();
    this.#enter(phase, listener);
  }

  #enter(phase: AnswerPhase, listener: AnswerListener): void {
    if (this.phase === phase) return;
    this.phase = phase;
    listener.onPhase();
  }

  #onTokens(choice: ChoiceState, tokens: readonly GeneratedToken[], listener: AnswerListener): void {
    for (const token of tokens) {
      listener.beforeToken(choice.pending);
      this.completionTokens += 1;
      if (token.inReasoning) this.reasoningTokens += 1;
      choice.pending.addToken(token);
      if (choice.output) choice.pending.addText(choice.output.push(token.id));
      listener.afterToken(choice.pending);
    }
  }

  #onChoiceEnd(event: Extract<EngineEvent, { t: 'ended' }>, listener: AnswerListener): void {
    const choice = this.#choice(event.choice);
    const { match } = event;
    if (choice.output) choice.pending.addText(choice.output.finish(match?.t === 'sequence' ? match.index : null));
    // A call left half-way is not to be made, and the answer's end no request for it.
    const calledTools = choice.output?.hasWholeCalls && match?.t === 'eos';
    choice.pending.end({
      finishReason: calledTools ? 'FINISH_REASON_TOOL_CALLS' : FINISH_REASONS[event.reason],
      stopMatch: stopMatchMessage(match, this.options.stopSequences),
    });
    listener.onChoiceEnd(choice.pending);
  }

  #choice(index: number): ChoiceState {
    const choice = this.choices[index];
    if (!choice) throw new Error(`the engine speaks of choice ${index} of ${this.choices.length}`);
    return choice;
  }

  #settle(how: () => void): void {
    if (this.#isSettled) return;
    this.#isSettled = true;
    how();
  }

  #newChoice(index: number): ChoiceState {
    const { model, options, prompt } = this;
    const tokenizer = model.text?.tokenizer ?? null;
    const tokenBytes: TokenBytes = tokenizer ? (id) => tokenizer.tokenBytes(id) : () => new Uint8Array(0);
    const pending = new PendingDelta(index, options.output, tokenBytes);
    if (!tokenizer || !options.output.text) return { pending, output: null };
    const stopTokenIds = new Set(options.stop.tokenIds);
    if (model.eosId !== null && !options.stop.ignoreEos) stopTokenIds.add(model.eosId);
    const output = new ChoiceOutput(tokenizer, {
      chat: options.input.t === 'chat' ? { startsInReasoning: prompt.startsInReasoning, newCallId } : null,
      stopSequences: options.stopSequences,
      stopTokenIds,
      includeStop: options.includeStop,
    });
    return { pending, output };
  }

  #engineRequest(): Omit<EngineRequest, 'signal' | 'onEvent'> {
    const { model, options, prompt, seed } = this;
    const { cache } = options;
    return {
      promptTokens: prompt.tokens,
      numChoices: options.numChoices,
      sampling: { ...options.sampling, seed },
      stop: { ...options.stop, sequences: options.stopSequences.map((text) => Buffer.from(text)) },
      reasoning: {
        startsInReasoning: prompt.startsInReasoning,
        endToken: model.text?.tokenizer.specialId(SpecialToken.END_THINK) ?? null,
        maxTokens: options.maxReasoningTokens,
      },
      logprobs: options.output.logprobs,
      topLogprobs: options.output.topLogprobs,
      priority: options.priority,
      cache: { read: cache.read, write: cache.write, scope: cache.scope, boundaries: boundariesOf(prompt, cache) },
    };
  }
}

/** Prompt positions behind which other requests are likely to go on: the setup of a conversation, and what the client names. */
function boundariesOf({ chat }: Prompt, { boundaryAfterMessage }: CacheOptions): number[] {
  if (chat === null) return [];
  const positions = [chat.setupEnd, ...boundaryAfterMessage.map((index) => chat.messageEnds[index] ?? 0)];
  return [...new Set(positions)].sort((a, b) => a - b);
}

function newCallId(): string {
  return `call_${randomBytes(12).toString('hex')}`;
}
