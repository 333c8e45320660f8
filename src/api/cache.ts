// CacheService: what of a prompt is kept, and what a client may do about it. Every call works on the engine's PromptCache;
// warming is an ordinary request that generates nothing.

import { Failure } from '../base/failures.js';
import type { Priority } from '../engine/types.js';
import type { CacheEvent, CacheTier, PurgeSelector } from '../kv/types.js';
import type { Answer, AnswerListener } from './answer.js';
import { EventBacklog } from './event-backlog.js';
import type { CacheEvent as CacheEventMessage } from './gen/nandu/v1/CacheEvent.js';
import type { CacheTier as CacheTierMessage } from './gen/nandu/v1/CacheTier.js';
import type { PinPrefixRequest__Output } from './gen/nandu/v1/PinPrefixRequest.js';
import type { PinPrefixResponse } from './gen/nandu/v1/PinPrefixResponse.js';
import type { ProbePrefixRequest__Output } from './gen/nandu/v1/ProbePrefixRequest.js';
import type { ProbePrefixResponse } from './gen/nandu/v1/ProbePrefixResponse.js';
import type { PromptSpec__Output } from './gen/nandu/v1/PromptSpec.js';
import type { PurgeCacheRequest__Output } from './gen/nandu/v1/PurgeCacheRequest.js';
import type { PurgeCacheResponse } from './gen/nandu/v1/PurgeCacheResponse.js';
import type { WarmPrefixRequest__Output } from './gen/nandu/v1/WarmPrefixRequest.js';
import type { WarmPrefixResponse } from './gen/nandu/v1/WarmPrefixResponse.js';
import type { WatchCacheEventsRequest__Output } from './gen/nandu/v1/WatchCacheEventsRequest.js';
import type { WatchCacheEventsResponse } from './gen/nandu/v1/WatchCacheEventsResponse.js';
import {
  checkScope,
  type GenerateOptions,
  PRIORITIES,
  PROGRESS_INTERVAL_MS,
  parseInput,
  type RequestLimits,
} from './generate-request.js';
import { estimateFirstTokenMs, type GenerationHandlers } from './generation.js';
import type { ModelSlot } from './model.js';
import { encodePrompt, type PromptInput } from './prompt.js';
import type { Call, Outlet } from './rpc.js';
import { progressOf } from './stream.js';
import { cachePlanOf, hitTokensOf } from './usage.js';
import { FieldErrors } from './validate.js';

export const TIERS: Readonly<Record<CacheTier, CacheTierMessage>> = {
  live: 'CACHE_TIER_LIVE',
  memory: 'CACHE_TIER_MEMORY',
  disk: 'CACHE_TIER_DISK',
};

const PREFIX_ID = /^[0-9a-f]{64}$/;

export class CacheHandlers {
  /** Calls of WatchCacheEvents: they end only when somebody ends them. */
  readonly #watches = new Set<Call>();

  constructor(
    private readonly slot: ModelSlot,
    private readonly generation: GenerationHandlers,
  ) {}

  async probePrefix(request: ProbePrefixRequest__Output, { signal }: Call): Promise<ProbePrefixResponse> {
    const model = this.slot.require(request.prompt?.model ?? '');
    const errors = new FieldErrors();
    const { input, inputField, scope } = parsePromptSpec(request.prompt, model.vocabSize, errors);
    errors.throwIfAny();
    const prompt = await encodePrompt(input, inputField, model, signal);
    const cover = model.engine.cache.probe(prompt.tokens, scope);
    return { plan: cachePlanOf(cover, prompt, model.engine.load()) };
  }

  async warmPrefix(request: WarmPrefixRequest__Output, call: Call, out: Outlet<WarmPrefixResponse>): Promise<void> {
    const model = this.slot.require(request.prompt?.model ?? '');
    const options = parseWarmRequest(request, model);
    await this.generation.answering(options, model, call, async (_requestId, answer) => {
      const progress = new WarmProgress(answer, out);
      try {
        answer.start(progress);
        progress.send();
        await answer.done;
      } finally {
        progress.close();
      }
      const { use } = answer;
      if (use === null || use.prefixId === null) {
        // Nothing came of it that a client could name: what was computed is gone.
        await out.writeLast({ progress: progress.message() }, call.signal);
        return;
      }
      const storedTokens = Math.min(use.promptTokens, hitTokensOf(use) + use.writeTokens);
      await out.writeLast({ progress: progress.message(), prefixId: use.prefixId, storedTokens }, call.signal);
    });
  }

  async pinPrefix(request: PinPrefixRequest__Output): Promise<PinPrefixResponse> {
    const { cache } = this.slot.require('').engine;
    const { prefixId = '' } = request;
    const errors = new FieldErrors();
    checkPrefixId(prefixId, errors);
    const untilMs = errors.timestampMs('until', request.until);
    if (untilMs !== null && untilMs <= Date.now()) errors.invalid('until', 'has passed; leave it out to unpin');
    errors.throwIfAny();
    try {
      return { bytes: await cache.pin(prefixId, untilMs) };
    } catch (error) {
      if (!(error instanceof Failure) || error.reason !== 'PREFIX_NOT_FOUND') throw error;
      throw new Failure(error.reason, error.message, { ...error.facts, resource: { type: 'prefix', name: prefixId } });
    }
  }

  /** Resolves when what was purged can never come back. A caller that does not wait for it stops nothing. */
  async purgeCache(request: PurgeCacheRequest__Output, { signal }: Call): Promise<PurgeCacheResponse> {
    const { cache } = this.slot.require('').engine;
    return Promise.race([cache.purge(parsePurge(request)), aborted(signal)]);
  }

  watchCacheEvents(
    request: WatchCacheEventsRequest__Output,
    call: Call,
    out: Outlet<WatchCacheEventsResponse>,
  ): Promise<void> {
    const { engine, fingerprint } = this.slot.require('');
    const { afterSequence = 0 } = request;
    const errors = new FieldErrors();
    errors.number('after_sequence', afterSequence, 0, { low: 0, high: Number.MAX_SAFE_INTEGER });
    errors.throwIfAny();
    const backlog = new EventBacklog(engine.cache, afterSequence, out, (event) => eventMessage(event, fingerprint));
    this.#watches.add(call);
    return aborted(call.signal).finally(() => {
      this.#watches.delete(call);
      backlog.close();
    });
  }

  /** The server shuts down. */
  endWatches(): void {
    for (const call of this.#watches) call.abort(new Failure('DRAINING', 'the server is shutting down'));
  }
}

/** Says where a warming request is: at every change of phase, and as often as a stream's heartbeat. */
class WarmProgress implements AnswerListener {
  readonly #timer = setInterval(() => this.send(), PROGRESS_INTERVAL_MS);

  constructor(
    private readonly answer: Answer,
    private readonly out: Outlet<WarmPrefixResponse>,
  ) {}

  message() {
    return progressOf(this.answer, () => estimateFirstTokenMs(this.answer));
  }

  send(): void {
    if (!this.out.isFull) this.out.write({ progress: this.message() });
  }

  onPhase(): void {
    this.send();
  }

  beforeToken(): void {}
  afterToken(): void {}
  onChoiceEnd(): void {}

  close(): void {
    clearInterval(this.#timer);
  }
}

/** Never resolves; rejects with the signal's reason. */
function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

interface ParsedPrompt {
  readonly input: PromptInput;
  readonly inputField: string;
  readonly scope: string;
}

function parsePromptSpec(spec: PromptSpec__Output | undefined, vocabSize: number, errors: FieldErrors): ParsedPrompt {
  if (spec === undefined) {
    errors.invalid('prompt', 'must be set');
    return { input: { t: 'token_ids', ids: new Uint32Array(0) }, inputField: 'prompt', scope: '' };
  }
  return errors.within('prompt', () => {
    const input = parseInput(spec, vocabSize, errors);
    return { input, inputField: `prompt.${input.t}`, scope: checkScope('scope', spec.scope ?? '', errors) };
  });
}

/** A request that computes the prompt, keeps it, and generates nothing. */
function parseWarmRequest(
  request: WarmPrefixRequest__Output,
  limits: Omit<RequestLimits, 'defaultMaxTokens'>,
): GenerateOptions {
  const errors = new FieldErrors();
  const { scope, ...prompt } = parsePromptSpec(request.prompt, limits.vocabSize, errors);
  if (request.ttl) errors.unsupported('ttl', 'prefixes cannot be kept for a time yet; PinPrefix can');
  const unset = 'PRIORITY_UNSPECIFIED';
  const wished = request.priority === unset ? undefined : request.priority;
  const priority = errors.oneOf<Priority>('priority', wished, 'background', PRIORITIES);
  errors.throwIfAny();
  return {
    ...prompt,
    seed: 0,
    sampling: { ...limits.defaultSampling, logitBias: new Map() },
    numChoices: 1,
    stop: { maxTokens: 0, minTokens: 0, tokenIds: [], ignoreEos: false },
    stopSequences: [],
    includeStop: false,
    maxReasoningTokens: null,
    output: { text: false, tokenIds: false, logprobs: false, topLogprobs: 0, promptTokenIds: false, timings: false },
    pacing: { progressIntervalMs: PROGRESS_INTERVAL_MS, messageTokensMax: 1, delayMsMax: 0 },
    cache: { read: true, write: true, scope, boundaryAfterMessage: [] },
    requestId: null,
    priority,
    sessionId: null,
    labels: {},
  };
}

function checkPrefixId(prefixId: string, errors: FieldErrors): void {
  if (!PREFIX_ID.test(prefixId)) errors.invalid('prefix_id', 'must be 64 hexadecimal digits, as usage says it');
}

function parsePurge(request: PurgeCacheRequest__Output): PurgeSelector {
  const { scope, prefixId = '', all = false, unusedSince, tenantId = '', dryRun = false } = request;
  const errors = new FieldErrors();
  if (scope === undefined && prefixId === '' && !all && unusedSince === undefined) {
    const required = 'is required, unless another of scope, prefix_id, all and unused_since says what to delete';
    for (const field of ['scope', 'prefix_id', 'all', 'unused_since']) errors.invalid(field, required);
  }
  if (scope !== undefined) checkScope('scope', scope, errors);
  if (prefixId !== '') checkPrefixId(prefixId, errors);
  // Whichever was meant, deleting the other cannot be undone.
  if (all && (scope !== undefined || prefixId !== '')) errors.invalid('all', 'goes with neither scope nor prefix_id');
  if (tenantId !== '') errors.unsupported('tenant_id', 'there are no tenants yet');
  const unusedSinceMs = errors.timestampMs('unused_since', unusedSince);
  errors.throwIfAny();
  return { scope: scope ?? null, prefixId: prefixId === '' ? null : prefixId, unusedSinceMs, dryRun };
}

function eventMessage(event: CacheEvent, fingerprint: string): CacheEventMessage {
  const tier = TIERS[event.tier];
  const blockHash = bufferOf(event.blockHash);
  const scopeTag = bufferOf(event.scopeTag);
  if (event.t === 'removed') return { removed: { blockHash, tier, scopeTag } };
  const parentHash = bufferOf(event.parentHash);
  return { stored: { blockHash, parentHash, tokenIds: [...event.tokens], tier, fingerprint, scopeTag } };
}

/** Buffer, as the codec wants it; no copy. */
function bufferOf(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
