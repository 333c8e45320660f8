// GenerationService: a request comes in, is checked, tokenised, started, and answered whole or as a stream.

import { Failure } from '../base/failures.js';
import { newRequestId, randomSeed, sessionTag } from '../base/ids.js';
import type { PriceList } from '../base/prices.js';
import { Answer, type AnswerListener } from './answer.js';
import { choiceOf } from './delta.js';
import type { CancelGenerationRequest__Output } from './gen/nandu/v1/CancelGenerationRequest.js';
import type { CancelGenerationResponse } from './gen/nandu/v1/CancelGenerationResponse.js';
import type { GenerateRequest__Output } from './gen/nandu/v1/GenerateRequest.js';
import type { GenerateResponse } from './gen/nandu/v1/GenerateResponse.js';
import type { GenerateStreamResponse } from './gen/nandu/v1/GenerateStreamResponse.js';
import { type GenerateOptions, parseGenerateRequest } from './generate-request.js';
import type { ModelSlot, ServedModel } from './model.js';
import { encodePrompt, requireText } from './prompt.js';
import type { Call, Outlet } from './rpc.js';
import { AnswerStream } from './stream.js';
import { durationOf, timestampOf } from './time.js';
import { cacheFactsOf, cachePlanOf, computeTimeMs, hitTokensOf, timingsOf, usageOf } from './usage.js';

/** A request between acceptance and its end. */
interface Running {
  readonly call: Call;
  answer: Answer | null;
}

const silent: AnswerListener = {
  onPhase: () => {},
  beforeToken: () => {},
  afterToken: () => {},
  onChoiceEnd: () => {},
};

export class GenerationHandlers {
  /** By request id. */
  readonly #running = new Map<string, Running>();
  #onIdle: (() => void) | null = null;

  constructor(
    private readonly slot: ModelSlot,
    private readonly settings: { readonly defaultMaxTokens: number; readonly prices: PriceList | null },
  ) {}

  async generate(request: GenerateRequest__Output, call: Call): Promise<GenerateResponse> {
    return this.#accept(request, call, async (requestId, answer) => {
      answer.start(silent);
      await answer.done;
      const { model, options, prompt, seed } = answer;
      return {
        ...headOf(requestId, answer, call),
        choices: answer.choices.map(({ pending }) => choiceOf(pending.take())),
        usage: usageOf(answer, call.acceptedWallMs, this.settings.prices),
        ...(options.output.timings && { timings: timingsOf(answer) }),
        ...(options.output.promptTokenIds && { promptTokenIds: [...prompt.tokens] }),
        fingerprint: model.fingerprint,
        seed,
      };
    });
  }

  async generateStream(
    request: GenerateRequest__Output,
    call: Call,
    out: Outlet<GenerateStreamResponse>,
  ): Promise<void> {
    return this.#accept(request, call, async (requestId, answer) => {
      const { model, options, prompt, seed } = answer;
      const stream = new AnswerStream(answer, out, () => estimateFirstTokenMs(answer));
      const load = model.engine.load(); // before this request is part of it
      const cachePlan = cachePlanOf(answer.start(stream), prompt, load);
      const computeMs = computeTimeMs(cachePlan.missTokens ?? 0, load);
      try {
        stream.started({
          ...headOf(requestId, answer, call),
          fingerprint: model.fingerprint,
          cachePlan,
          queuePosition: answer.queuePosition,
          ...(computeMs !== null && { estimatedTimeToFirstToken: durationOf(load.expectedWaitMs + computeMs) }),
          ...(options.output.promptTokenIds && { promptTokenIds: [...prompt.tokens] }),
          seed,
        });
        if (answer.queuePosition > 0) stream.onPhase();
        await answer.done;
        const usage = usageOf(answer, call.acceptedWallMs, this.settings.prices);
        await stream.finished({ usage, ...(options.output.timings && { timings: timingsOf(answer) }) }, call.signal);
      } finally {
        stream.close();
      }
    });
  }

  cancelGeneration({ requestId = '' }: CancelGenerationRequest__Output): CancelGenerationResponse {
    const running = this.#running.get(requestId);
    if (!running) return { found: false };
    const facts = { metadata: { request_id: requestId } };
    running.call.abort(new Failure('CANCELLED_BY_CALLER', 'cancelled by CancelGeneration', facts));
    return { found: true, completionTokens: running.answer?.completionTokens ?? 0 };
  }

  /** Resolves when no request is left; at once when there is none. */
  whenIdle(): Promise<void> {
    if (this.#running.size === 0) return Promise.resolve();
    return new Promise((resolve) => {
      this.#onIdle = resolve;
    });
  }

  abortAll(reason: Failure): void {
    for (const { call } of this.#running.values()) call.abort(reason);
  }

  async #accept<Result>(
    request: GenerateRequest__Output,
    call: Call,
    run: (requestId: string, answer: Answer) => Promise<Result>,
  ): Promise<Result> {
    const model = this.slot.require(request.model ?? '');
    const { defaultMaxTokens } = this.settings;
    const options = parseGenerateRequest(request, { ...model, defaultMaxTokens });
    return this.answering(options, model, call, run);
  }

  /**
   * Keeps the id of a checked request while `run` lasts, makes the Answer that it starts, and writes down how it went. Also
   * for work of the server's own kind, such as warming: whatever goes through here is cancelled, drained and logged alike.
   */
  async answering<Result>(
    options: GenerateOptions,
    model: ServedModel,
    call: Call,
    run: (requestId: string, answer: Answer) => Promise<Result>,
  ): Promise<Result> {
    const requestId = options.requestId ?? newRequestId();
    call.requestId = requestId;
    if (options.stopSequences.length > 0) requireText(model);
    refuseOverdue(call, model);
    if (this.#running.has(requestId)) {
      throw new Failure('REQUEST_ID_IN_USE', `request_id "${requestId}" belongs to a request that is still running`, {
        resource: { type: 'request', name: requestId },
      });
    }
    const running: Running = { call, answer: null };
    this.#running.set(requestId, running);
    Object.assign(call.facts, factsOf(options));
    try {
      const prompt = await encodePrompt(options.input, options.inputField, model, call.signal);
      running.answer = new Answer(model, options, prompt, options.seed ?? randomSeed(), call);
      return await run(requestId, running.answer);
    } finally {
      this.#running.delete(requestId);
      if (running.answer) Object.assign(call.facts, outcomeOf(running.answer));
      if (this.#running.size === 0) this.#onIdle?.();
    }
  }
}

function refuseOverdue({ deadlineWallMs }: Call, model: ServedModel): void {
  if (deadlineWallMs === null) return;
  const leftMs = deadlineWallMs - Date.now();
  if (leftMs > 0) return;
  throw new Failure('DEADLINE_UNREACHABLE', 'the deadline had passed when the request came', {
    metadata: { estimated_ms: String(Math.ceil(model.engine.load().expectedWaitMs)), deadline_ms: String(leftMs) },
  });
}

function headOf(
  requestId: string,
  { model }: Answer,
  call: Call,
): Pick<GenerateResponse, 'requestId' | 'model' | 'createTime'> {
  const name = model.version === '' ? model.name : `${model.name}@${model.version}`;
  return { requestId, model: name, createTime: timestampOf(call.acceptedWallMs) };
}

/** From now; null without a measured speed. */
export function estimateFirstTokenMs(answer: Answer): number | null {
  const { model, prompt, promptTokensDone, phase, queuePosition, cover } = answer;
  const load = model.engine.load();
  const hitTokens = cover === null ? 0 : hitTokensOf(cover);
  const computeMs = computeTimeMs(prompt.tokens.length - Math.max(promptTokensDone, hitTokens), load);
  if (computeMs === null) return null;
  // The engine speaks of a request that comes now, behind all that wait.
  const shareAhead = queuePosition === 0 ? 1 : queuePosition / (load.waiting + 1);
  return computeMs + (phase === 'queued' ? load.expectedWaitMs * shareAhead : 0);
}

/** For the log; no text, no session in clear. */
function factsOf(options: GenerateOptions): Record<string, unknown> {
  return {
    priority: options.priority,
    ...(options.sessionId !== null && { session: sessionTag(options.sessionId) }),
    ...(Object.keys(options.labels).length > 0 && { labels: options.labels }),
  };
}

function outcomeOf(answer: Answer): Record<string, unknown> {
  const { acceptedMs, admittedMs, firstTokenMs } = answer.times;
  return {
    ...cacheFactsOf(answer),
    completion_tokens: answer.completionTokens,
    ...(admittedMs !== null && { queue_ms: Math.round(admittedMs - acceptedMs) }),
    ...(firstTokenMs !== null && { ttft_ms: Math.round(firstTokenMs - acceptedMs) }),
  };
}
