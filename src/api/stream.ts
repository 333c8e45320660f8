// Paces the messages of one GenerateStream. Deltas leave when enough tokens have gathered, when they have waited long
// enough, or when their choice ends; while the reader is slow they grow instead, so that a stream never holds more than
// its own answer. A heartbeat says where the request is when nothing else does.

import type { Answer, AnswerListener, AnswerPhase } from './answer.js';
import type { PendingDelta } from './delta.js';
import type { GenerateStreamResponse } from './gen/nandu/v1/GenerateStreamResponse.js';
import type { Phase } from './gen/nandu/v1/Phase.js';
import type { StreamFinished } from './gen/nandu/v1/StreamFinished.js';
import type { StreamProgress } from './gen/nandu/v1/StreamProgress.js';
import type { StreamStarted } from './gen/nandu/v1/StreamStarted.js';
import type { Pacing } from './generate-request.js';
import type { Outlet } from './rpc.js';
import { durationOf, startTimer } from './time.js';

const PHASES: Readonly<Record<AnswerPhase, Phase>> = {
  queued: 'PHASE_QUEUED',
  restoring: 'PHASE_RESTORING',
  prefill: 'PHASE_PREFILL',
  decode: 'PHASE_DECODE',
};

export class AnswerStream implements AnswerListener {
  readonly #answer: Answer;
  readonly #out: Outlet<GenerateStreamResponse>;
  readonly #pacing: Pacing;
  readonly #estimateFirstTokenMs: () => number | null;
  /** Choices whose delta may leave at the end of this turn. */
  readonly #due = new Set<PendingDelta>();
  #sentMs = 0;
  #heartbeat: NodeJS.Timeout | null = null;
  #delay: NodeJS.Timeout | null = null;

  /** `estimateFirstTokenMs`: from now; null when nobody can tell. */
  constructor(answer: Answer, out: Outlet<GenerateStreamResponse>, estimateFirstTokenMs: () => number | null) {
    this.#answer = answer;
    this.#out = out;
    this.#pacing = answer.options.pacing;
    this.#estimateFirstTokenMs = estimateFirstTokenMs;
    out.onDrain = () => this.#sendGathered();
  }

  started(message: StreamStarted): void {
    this.#send({ started: message });
    if (this.#pacing.progressIntervalMs > 0) this.#awaitHeartbeat();
  }

  /** Sends what is left and the last message; resolves when the reader has taken it in. */
  finished(message: StreamFinished, signal: AbortSignal): Promise<void> {
    this.close();
    for (const { pending } of this.#answer.choices) if (!pending.isEmpty) this.#send({ delta: pending.take() });
    return this.#out.writeLast({ finished: message }, signal);
  }

  /** No timers from here on. Safe twice. */
  close(): void {
    if (this.#heartbeat) clearTimeout(this.#heartbeat);
    if (this.#delay) clearTimeout(this.#delay);
    this.#heartbeat = null;
    this.#delay = null;
    this.#out.onDrain = () => {};
  }

  onPhase(): void {
    this.#sendProgress();
  }

  /** Several tokens of one turn leave as several messages, unless the reader is slow. */
  beforeToken(pending: PendingDelta): void {
    if (pending.numTokens >= this.#pacing.messageTokensMax && !this.#out.isFull) this.#send({ delta: pending.take() });
  }

  afterToken(pending: PendingDelta): void {
    this.#sendLater(pending);
  }

  onChoiceEnd(pending: PendingDelta): void {
    this.#sendLater(pending);
  }

  /** At the end of the turn: the end of a choice comes with its last token and leaves with it. */
  #sendLater(pending: PendingDelta): void {
    if (this.#due.size === 0) queueMicrotask(() => this.#sendDue());
    this.#due.add(pending);
  }

  #sendDue(): void {
    for (const pending of this.#due) {
      if (this.#out.isFull || pending.isEmpty) continue;
      if (pending.hasEnded || pending.numTokens >= this.#pacing.messageTokensMax) this.#send({ delta: pending.take() });
      else this.#delay ??= startTimer(this.#pacing.delayMsMax, () => this.#sendGathered());
    }
    this.#due.clear();
  }

  #sendGathered(): void {
    this.#delay = null;
    for (const { pending } of this.#answer.choices) {
      if (this.#out.isFull) return; // onDrain goes on
      if (!pending.isEmpty) this.#send({ delta: pending.take() });
    }
  }

  #sendProgress(): void {
    if (this.#out.isFull) return; // a newer one will follow
    this.#send({ progress: progressOf(this.#answer, this.#estimateFirstTokenMs) });
  }

  #send(message: GenerateStreamResponse): void {
    this.#out.write(message);
    this.#sentMs = performance.now();
  }

  /** One timer for the whole stream: it looks when the last message left and sleeps for what remains. */
  #awaitHeartbeat(): void {
    const interval = this.#pacing.progressIntervalMs;
    this.#heartbeat = startTimer(this.#sentMs + interval - performance.now(), () => {
      if (performance.now() - this.#sentMs >= interval - 1) this.#sendProgress();
      if (this.#out.isFull) this.#sentMs = performance.now();
      this.#awaitHeartbeat();
    });
  }
}

/** `estimateFirstTokenMs` is asked while there is no token yet. */
export function progressOf(answer: Answer, estimateFirstTokenMs: () => number | null): StreamProgress {
  const { phase, promptTokensDone, prompt, queuePosition, times } = answer;
  const estimateMs = times.firstTokenMs === null ? estimateFirstTokenMs() : null;
  return {
    phase: PHASES[phase],
    promptTokensDone,
    promptTokensTotal: prompt.tokens.length,
    queuePosition,
    elapsed: durationOf(performance.now() - times.acceptedMs),
    ...(estimateMs === null ? {} : { estimatedTimeToFirstToken: durationOf(estimateMs) }),
  };
}
