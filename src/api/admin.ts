// AdminService as far as it goes: what this server is, and how busy.

import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { Engine } from '../engine/types.js';
import type { CacheStats } from '../kv/types.js';
import { TIERS } from './cache.js';
import type { GetCacheStatsRequest__Output } from './gen/nandu/v1/GetCacheStatsRequest.js';
import type { GetCacheStatsResponse } from './gen/nandu/v1/GetCacheStatsResponse.js';
import type { GetLoadResponse } from './gen/nandu/v1/GetLoadResponse.js';
import type { GetServerInfoResponse } from './gen/nandu/v1/GetServerInfoResponse.js';
import type { ModelSlot } from './model.js';
import { durationOf, timestampOf } from './time.js';
import { missReasonOf } from './usage.js';
import { FieldErrors } from './validate.js';

/** What does not change while the process lives. */
export interface ServerFacts {
  readonly version: string;
  /** Source revision; '' when unknown. */
  readonly revision: string;
  readonly instanceId: string;
  readonly cpuModel: string;
  readonly computeThreads: number;
  /** The kernel target in use, such as "avx512"; none while the model loads. */
  readonly cpuFeatures: readonly string[];
  /** How the cache's disk is read: "io_uring", "pool" or "mmap"; '' when it has none. */
  readonly ioBackend: string;
  /** As --memory-limit says; 0: half of what was free. */
  readonly memoryLimitBytes: number;
  /** Settings in force by flag name, secrets left out. */
  readonly settings: Readonly<Record<string, string>>;
}

const DELAY_WINDOW_MS = 10_000;
/** The histogram measures against a timer of this period and reports the whole interval. */
const DELAY_RESOLUTION_MS = 20;

const HIT_RATIO_MINUTES = 10;
const NO_TOKENS = { hitTokens: 0, missTokens: 0 };

export class AdminHandlers {
  readonly #startWallMs = Date.now() - process.uptime() * 1000;
  readonly #delay = new EventLoopDelay();
  readonly #hitRatio = new HitRatio(() => this.#engine()?.cache.stats() ?? null);

  constructor(
    private readonly slot: ModelSlot,
    /** Known in part before the model is loaded. */
    private readonly facts: () => ServerFacts,
    private readonly limits: { readonly maxRunning: number; readonly maxWaiting: number },
  ) {}

  getServerInfo(): GetServerInfoResponse {
    const facts = this.facts();
    return {
      ...facts,
      cpuFeatures: [...facts.cpuFeatures],
      settings: { ...facts.settings },
      nodeVersion: process.version,
      startTime: timestampOf(this.#startWallMs),
    };
  }

  getLoad(): GetLoadResponse {
    const load = this.#engine()?.load() ?? null;
    return {
      load: {
        time: timestampOf(Date.now()),
        maxRunningRequests: this.limits.maxRunning,
        maxWaitingRequests: this.limits.maxWaiting,
        ...(load && {
          runningRequests: load.running,
          waitingRequests: load.waiting,
          waitingMissTokens: load.waitingTokens,
          expectedWait: durationOf(load.expectedWaitMs),
          decodeTokensPerSecond: load.decodeTokensPerSecond,
          prefillTokensPerSecond: load.prefillTokensPerSecond,
        }),
        cacheHitRatio: this.#hitRatio.now(),
        residentBytes: process.memoryUsage.rss(),
        eventLoopDelay: durationOf(this.#delay.p99Ms()),
        draining: this.slot.state.t === 'draining',
      },
    };
  }

  getCacheStats({ tenantId = '' }: GetCacheStatsRequest__Output): GetCacheStatsResponse {
    const errors = new FieldErrors();
    if (tenantId !== '') errors.unsupported('tenant_id', 'there are no tenants yet');
    errors.throwIfAny();
    const stats = this.slot.require('').engine.cache.stats();
    return {
      ...stats,
      tiers: stats.tiers.map((tier) => ({ ...tier, tier: TIERS[tier.tier] })),
      misses: [...stats.misses].map(([reason, count]) => ({ reason: missReasonOf(reason), ...count })),
      readLatencyP99: durationOf(stats.readLatencyP99Ms),
    };
  }

  close(): void {
    this.#delay.close();
    this.#hitRatio.close();
  }

  /** null: there is none yet. */
  #engine(): Engine | null {
    const { state } = this.slot;
    return 'model' in state ? (state.model?.engine ?? null) : null;
  }
}

/** 99th percentile of how late the event loop was, over the last whole window of ten seconds and the one that runs. */
class EventLoopDelay {
  #histograms: [IntervalHistogram, IntervalHistogram] = [startHistogram(), startHistogram()];
  readonly #timer = setInterval(() => this.#turnOver(), DELAY_WINDOW_MS).unref();

  p99Ms(): number {
    const longestNs = Math.max(...this.#histograms.map((histogram) => histogram.percentile(99)));
    return Math.max(0, longestNs / 1e6 - DELAY_RESOLUTION_MS);
  }

  close(): void {
    clearInterval(this.#timer);
    for (const histogram of this.#histograms) histogram.disable();
  }

  #turnOver(): void {
    const [oldest, newest] = this.#histograms;
    oldest.disable();
    this.#histograms = [newest, startHistogram()];
  }
}

type PromptTokens = Pick<CacheStats, 'hitTokens' | 'missTokens'>;

/** Share of prompt tokens that hit, over the last ten minutes, give or take one; 0 when there were none. */
class HitRatio {
  /** Counters at the end of each minute, oldest first. */
  #minutes: PromptTokens[] = [];
  readonly #timer = setInterval(() => this.#endMinute(), 60_000).unref();

  constructor(private readonly counters: () => PromptTokens | null) {}

  now(): number {
    const now = this.counters() ?? NO_TOKENS;
    const then = this.#minutes[0] ?? NO_TOKENS;
    const hits = now.hitTokens - then.hitTokens;
    const all = hits + now.missTokens - then.missTokens;
    return all > 0 ? hits / all : 0;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #endMinute(): void {
    this.#minutes.push(this.counters() ?? NO_TOKENS);
    if (this.#minutes.length > HIT_RATIO_MINUTES) this.#minutes.shift();
  }
}

function startHistogram(): IntervalHistogram {
  const histogram = monitorEventLoopDelay({ resolution: DELAY_RESOLUTION_MS });
  histogram.enable();
  return histogram;
}
