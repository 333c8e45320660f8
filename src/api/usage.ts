// What a request's prompt cost and why: cache plans, usage, and the price. Every number here is a sum of what the engine
// said; nothing is measured twice.

import { costOf, type PriceClass, type PriceList, priceClassAt } from '../base/prices.js';
import type { EngineLoad } from '../engine/types.js';
import type { CacheCover, MissReason as KvMissReason } from '../kv/types.js';
import type { Answer } from './answer.js';
import type { CacheMiss } from './gen/nandu/v1/CacheMiss.js';
import type { CachePlan } from './gen/nandu/v1/CachePlan.js';
import type { Cost } from './gen/nandu/v1/Cost.js';
import type { MissReason } from './gen/nandu/v1/MissReason.js';
import type { Price } from './gen/nandu/v1/Price.js';
import type { Timings } from './gen/nandu/v1/Timings.js';
import type { Usage } from './gen/nandu/v1/Usage.js';
import { messageAt, type Prompt } from './prompt.js';
import { durationOf } from './time.js';

const MISS_REASONS: Readonly<Record<KvMissReason, MissReason>> = {
  none: 'MISS_REASON_NONE',
  new: 'MISS_REASON_NEW',
  diverged: 'MISS_REASON_DIVERGED',
  evicted: 'MISS_REASON_EVICTED',
  fingerprint: 'MISS_REASON_FINGERPRINT',
  scope: 'MISS_REASON_SCOPE',
  corrupt: 'MISS_REASON_CORRUPT',
  short: 'MISS_REASON_SHORT',
  bypassed: 'MISS_REASON_BYPASSED',
  recovering: 'MISS_REASON_RECOVERING',
  unavailable: 'MISS_REASON_UNAVAILABLE',
  'not-stored': 'MISS_REASON_NOT_STORED',
  'no-point': 'MISS_REASON_NO_POINT',
};

export function missReasonOf(reason: KvMissReason): MissReason {
  return MISS_REASONS[reason];
}

export function hitTokensOf({ hitLiveTokens, hitMemoryTokens, hitDiskTokens }: CacheCover): number {
  return hitLiveTokens + hitMemoryTokens + hitDiskTokens;
}

/** null without a measured speed. */
export function computeTimeMs(tokens: number, { prefillSpeed }: EngineLoad): number | null {
  return prefillSpeed > 0 ? (tokens / prefillSpeed) * 1000 : null;
}

export function cachePlanOf(cover: CacheCover, prompt: Prompt, load: EngineLoad): CachePlan {
  const { promptTokens, hitLiveTokens, hitMemoryTokens, hitDiskTokens, restoreBytes } = cover;
  const missTokens = promptTokens - hitTokensOf(cover);
  const computeMs = computeTimeMs(missTokens, load);
  return {
    ...{ promptTokens, hitLiveTokens, hitMemoryTokens, hitDiskTokens, missTokens, restoreBytes },
    miss: missOf(cover, prompt),
    // Restoring a token takes less than a thousandth of what computing one takes: it does not show here.
    ...(computeMs !== null && { estimatedDuration: durationOf(computeMs) }),
  };
}

/** Of an answer that has finished. */
export function usageOf(answer: Answer, acceptedWallMs: number, prices: PriceList | null): Usage {
  const { completionTokens, reasoningTokens, use, prompt } = answer;
  if (use === null) throw new Error('the engine ended a request without saying what it used');
  const { promptTokens, hitLiveTokens, hitMemoryTokens, hitDiskTokens, writeTokens, prefixId } = use;
  const hitTokens = hitTokensOf(use);
  const missTokens = promptTokens - hitTokens;
  const tokens = { hitTokens, missTokens, outputTokens: completionTokens };
  const cost = prices && costMessage(tokens, prices, acceptedWallMs);
  return {
    promptTokens,
    promptCacheHitTokens: hitTokens,
    promptCacheMissTokens: missTokens,
    completionTokens,
    reasoningTokens,
    totalTokens: promptTokens + completionTokens,
    ...{ hitLiveTokens, hitMemoryTokens, hitDiskTokens },
    cacheWriteTokens: writeTokens,
    miss: missOf(use, prompt),
    ...(cost && { cost }),
    prefixId: prefixId ?? '',
  };
}

export function timingsOf({ times, use }: Answer): Timings {
  const { acceptedMs, admittedMs, firstTokenMs, endedMs } = times;
  const admitted = admittedMs ?? acceptedMs;
  const ended = endedMs ?? admitted;
  const restoreMs = use?.restoreMs ?? 0;
  return {
    queue: durationOf(admitted - acceptedMs),
    restore: durationOf(restoreMs),
    // What is restored last comes in while the tail is computed already; that time counts as restoring.
    prefill: durationOf((firstTokenMs ?? ended) - admitted - restoreMs),
    decode: durationOf(firstTokenMs === null ? 0 : ended - firstTokenMs),
    ...(firstTokenMs !== null && { timeToFirstToken: durationOf(firstTokenMs - acceptedMs) }),
    kvBytesRead: use?.kvBytesRead ?? 0,
  };
}

/** For the log line: what happened, or what was planned where the request ended before it was over. */
export function cacheFactsOf({ use, cover, prompt }: Answer): Record<string, unknown> {
  const covered: CacheCover | null = use ?? cover;
  if (covered === null) return { prompt_tokens: prompt.tokens.length };
  const { promptTokens, hitLiveTokens, hitMemoryTokens, hitDiskTokens, miss } = covered;
  const hitTokens = hitTokensOf(covered);
  return {
    prompt_tokens: promptTokens,
    hit_tokens: hitTokens,
    ...(hitTokens > 0 && {
      hit_live_tokens: hitLiveTokens,
      hit_memory_tokens: hitMemoryTokens,
      hit_disk_tokens: hitDiskTokens,
    }),
    miss_tokens: promptTokens - hitTokens,
    miss: miss.reason,
    ...(use !== null && { write_tokens: use.writeTokens }),
    ...(use !== null && use.restoreMs > 0 && { restore_ms: Math.round(use.restoreMs) }),
  };
}

export function pricesOf({ classes, currency, name }: PriceList): Price[] {
  return classes.map((price) => ({
    priceClass: price.name,
    currencyCode: currency,
    // As text: the codec takes 64 bits from it that a number would round.
    hitPicos: String(price.hit),
    missPicos: String(price.miss),
    completionPicos: String(price.output),
    priceList: name,
  }));
}

function missOf({ miss }: CacheCover, prompt: Prompt): CacheMiss {
  const messageIndex = messageAt(miss.tokenPosition, prompt);
  return {
    reason: missReasonOf(miss.reason),
    tokenPosition: miss.tokenPosition,
    ...(messageIndex !== null && { messageIndex }),
    nearestCachedTokens: miss.nearestCachedTokens,
  };
}

/** At the prices of the time of acceptance, which the response shows; null: too much for the 64 bits of the contract. */
function costMessage(tokens: Parameters<typeof costOf>[0], prices: PriceList, wallMs: number): Cost | null {
  const price: PriceClass = priceClassAt(prices, wallMs);
  const picos = costOf(tokens, price);
  if (picos === null) return null;
  return {
    currencyCode: prices.currency,
    amountPicos: String(picos),
    priceList: prices.name,
    priceClass: price.name,
  };
}
