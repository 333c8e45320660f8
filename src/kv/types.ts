// What the API asks of the prompt cache and what it is told: plain data, no gRPC, no native types.

export type MissReason =
  | 'none'
  | 'new'
  | 'diverged'
  | 'evicted'
  | 'fingerprint'
  | 'scope'
  | 'corrupt'
  | 'short'
  | 'bypassed'
  | 'recovering'
  | 'unavailable'
  | 'not-stored'
  | 'no-point';

export interface CacheMiss {
  readonly reason: MissReason;
  /** First prompt token that was not a hit. */
  readonly tokenPosition: number;
  /** Tokens up to the deepest block boundary that is known beyond it; 0: none. */
  readonly nearestCachedTokens: number;
}

/** How a prompt is covered. hitLive + hitMemory + hitDisk + miss = prompt. */
export interface CacheCover {
  readonly promptTokens: number;
  /** Shared with a sequence that runs. */
  readonly hitLiveTokens: number;
  /** Kept in RAM. */
  readonly hitMemoryTokens: number;
  readonly hitDiskTokens: number;
  readonly miss: CacheMiss;
  readonly restoreBytes: number;
}

/** What happened, for usage. */
export interface CacheUse extends CacheCover {
  /** Tokens of this request queued for the disk. */
  readonly writeTokens: number;
  /** Longest prefix that is kept or queued: 64 hexadecimal digits; null: nothing is kept. */
  readonly prefixId: string | null;
  readonly restoreMs: number;
  readonly kvBytesRead: number;
}

export interface CacheWishes {
  readonly read: boolean;
  readonly write: boolean;
  /** Divides one tenant's cache; '' is the default. */
  readonly scope: string;
  /** Prompt positions behind which a point is wanted; rounded down to a multiple of 128. */
  readonly boundaries: readonly number[];
}

export type CacheTier = 'live' | 'memory' | 'disk';

export interface TierStats {
  readonly tier: CacheTier;
  readonly bytesUsed: number;
  readonly bytesLimit: number;
  readonly blocks: number;
  readonly pinnedBlocks: number;
  readonly hitTokens: number;
  readonly evictions: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
}

export interface CacheStats {
  readonly tiers: readonly TierStats[];
  readonly hitTokens: number;
  readonly missTokens: number;
  readonly misses: ReadonlyMap<MissReason, { readonly requests: number; readonly tokens: number }>;
  readonly bytesWrittenToday: number;
  readonly dailyWriteBudgetBytes: number;
  readonly quarantinedBlocks: number;
  readonly ioQueueDepth: number;
  readonly readLatencyP99Ms: number;
  readonly recovering: boolean;
  /** '' or what is wrong with the disk tier, in a sentence. */
  readonly diskProblem: string;
}

export interface PurgeSelector {
  /** null: every scope. */
  readonly scope: string | null;
  /** null: every prefix; else this one and what extends it. */
  readonly prefixId: string | null;
  /** Only what was not used since (wall clock, ms); null: whatever. */
  readonly unusedSinceMs: number | null;
  readonly dryRun: boolean;
}

export type CacheEvent =
  | {
      readonly t: 'stored';
      readonly tier: CacheTier;
      /** 16 bytes. */
      readonly blockHash: Uint8Array;
      /** Empty: the first block. */
      readonly parentHash: Uint8Array;
      /** Empty when they are not known any more (blocks recovered from disk). */
      readonly tokens: readonly number[];
      readonly scopeTag: Uint8Array;
    }
  | { readonly t: 'removed'; readonly tier: CacheTier; readonly blockHash: Uint8Array; readonly scopeTag: Uint8Array };

/** A reader of events. `onEvents` gets them in order; reset: it fell behind and gets a snapshot next. */
export interface CacheSubscription {
  close(): void;
}

export interface PromptCache {
  /** Changes nothing. */
  probe(tokens: Uint32Array, scope: string): CacheCover;
  /** Bytes that the pin holds; untilMs null: unpin. Rejects with Failure PREFIX_NOT_FOUND when nothing of it is stored. */
  pin(prefixId: string, untilMs: number | null): Promise<number>;
  /** Durable when it resolves; rejects with Failure CACHE_UNAVAILABLE when the disk cannot be written (hidden all the same). */
  purge(selector: PurgeSelector): Promise<{ readonly blocks: number; readonly bytes: number }>;
  stats(): CacheStats;
  /**
   * From behind `afterSequence` on, 0: a snapshot first. `firstSequence` numbers the first event of a call. A snapshot
   * comes in one call, so that a reader can tell it from changes that pile up.
   */
  watch(
    afterSequence: number,
    onEvents: (firstSequence: number, events: readonly CacheEvent[], reset: boolean) => void,
  ): CacheSubscription;
}
