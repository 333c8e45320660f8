// What one request holds of the cache from acceptance to its end: its chain of hashes, its slots, its points. cache.ts moves it
// from state to state; the scheduler reads it.
//
//   open ──admit──▶ restoring ──▶ ready ──▶ closed
//     │                └─ failed ─▶ open (and is admitted again, without the disk)
//     └──────────────────────────▶ ready: nothing to restore

import { BLOCK_TOKENS } from './block.js';
import { type ChainHasher, chainOf, extend, prefixIdOf, type ScopeKeys } from './chain-hash.js';
import type { Selection } from './disk-index.js';
import type { PointHandle, RamName } from './ram-tier.js';
import type { HashKey } from './store.js';
import type { CacheMiss, CacheUse, CacheWishes } from './types.js';

export interface LeaseRequest {
  readonly promptTokens: Uint32Array;
  readonly numChoices: number;
  /** Prompt and output together end here at the latest. */
  readonly totalTokens: number;
  readonly wishes: CacheWishes;
}

/** One choice's blocks, as far as it has any of its own. */
interface ChoiceBlocks {
  /** Of all its blocks; those of the prompt are shared by all choices. */
  readonly slots: number[];
  /** Chain hashes of its complete blocks. */
  readonly chain: HashKey[];
  /** The same without identity and scope; empty where there is no disk. */
  readonly plainChain: HashKey[];
  /** Generated so far. */
  readonly output: number[];
  /** Blocks that others may find; they are complete. */
  named: number;
}

export interface HitTokens {
  readonly live: number;
  readonly memory: number;
  readonly disk: number;
}

/** What a request's blocks are called under one identity and scope. */
export interface Names {
  readonly hasher: ChainHasher;
  readonly keys: ScopeKeys;
  /** Chain hashes of the prompt's whole blocks; none where the cache is not used. */
  readonly chain: readonly HashKey[];
  /** The same without identity and scope; empty where there is no disk. */
  readonly plainChain: readonly HashKey[];
}

export class Lease implements Names {
  hasher: ChainHasher;
  keys: ScopeKeys;
  chain: readonly HashKey[];
  plainChain: readonly HashKey[];
  state: 'open' | 'restoring' | 'ready' | 'closed' = 'open';
  /** Why it must not be admitted now: another computes or restores what it can then share. */
  blockedBy: { readonly lease: Lease; readonly boundary: number } | null = null;
  /** It waited for a prefix that another made: what it then shares are live hits. */
  hasWaited = false;
  /** What it computes may be found and stored; false once it was purged. */
  keeps: boolean;
  /** A purge met it: what is read back for it is its own, nobody else's. */
  isDisowned = false;
  /** A restore failed: not tried again for this request. */
  avoidsDisk = false;
  choices: ChoiceBlocks[] = [];
  /** In place when it starts. */
  startTokens = 0;
  /** Rows before this are in place, and windows are made again from startTokens on; 0: no replay. */
  frozenTokens = 0;
  startPoint: PointHandle | null = null;
  /** Prompt tokens in place now. */
  promptDone = 0;
  /** Positions whose points native takes, ascending. */
  points: number[] = [];
  /** Positions that others came to want since. */
  readonly extraPoints = new Set<number>();
  hits: HitTokens = { live: 0, memory: 0, disk: 0 };
  miss: CacheMiss = { reason: 'new', tokenPosition: 0, nearestCachedTokens: 0 };
  writeTokens = 0;
  /** Longest prefix that is kept or queued. */
  deepest: { readonly key: HashKey; readonly tokens: number } | null = null;
  /** Stops the restore that runs; its end is told as always. */
  cancelRestore: (() => void) | null = null;
  restoreBeganMs = 0;
  restoreMs = 0;
  kvBytesRead = 0;
  restoreBytes = 0;
  /** Of the same request before it was preempted: what hit and missed then is what its client is told. */
  earlier: CacheUse | null = null;
  /** Tokens that were in place when it was preempted: it is not to leave again before it has come further. */
  doneBefore = 0;
  /** The disk did not take something of it: not all that it computed is found again. */
  wasRefused = false;

  constructor(
    readonly request: LeaseRequest,
    names: Names,
  ) {
    ({ hasher: this.hasher, keys: this.keys, chain: this.chain, plainChain: this.plainChain } = names);
    this.keeps = request.wishes.write;
  }

  /** From now on its blocks have these names, those of its output, too. */
  rename(names: Names): void {
    ({ hasher: this.hasher, keys: this.keys, chain: this.chain, plainChain: this.plainChain } = names);
    this.choices.forEach(({ chain, plainChain }, choice) => {
      const numBlocks = chain.length;
      chain.splice(0, numBlocks, ...names.chain);
      plainChain.splice(0, plainChain.length, ...names.plainChain);
      this.chainOf(choice, numBlocks);
    });
  }

  get promptTokens(): number {
    return this.request.promptTokens.length;
  }

  /** Blocks of 128 tokens that it can come to need, choices counted. */
  get numBlocks(): number {
    return blocksNeeded(this.promptTokens, this.request.totalTokens, this.request.numChoices);
  }

  get hasOutput(): boolean {
    return (this.choices[0]?.output.length ?? 0) > 0;
  }

  /** The next position that others wait for; 0: none. */
  get extraPoint(): number {
    let next = 0;
    for (const point of this.extraPoints) if (point > this.promptDone && (next === 0 || point < next)) next = point;
    return next;
  }

  addTokens(choice: number, tokens: readonly { readonly id: number }[]): void {
    for (const { id } of tokens) this.choices[choice]?.output.push(id);
  }

  /** Prompt and output of a choice at positions [from, to), as far as they are there. */
  tokensOf(choice: number, from: number, to: number): Uint32Array {
    const prompt = this.request.promptTokens;
    if (to <= prompt.length) return prompt.subarray(from, to);
    const output = this.choices[choice]?.output ?? [];
    const generated = output.slice(Math.max(0, from - prompt.length), to - prompt.length);
    const ofPrompt = prompt.subarray(from);
    const tokens = new Uint32Array(ofPrompt.length + generated.length);
    tokens.set(ofPrompt);
    tokens.set(generated, ofPrompt.length);
    return tokens;
  }

  /** Chain of a choice, up to `numBlocks` blocks as far as their tokens are there. */
  chainOf(choice: number, numBlocks: number): readonly HashKey[] {
    const { chain, plainChain } = this.choices[choice] as ChoiceBlocks;
    while (chain.length < numBlocks) {
      const from = chain.length * BLOCK_TOKENS;
      const tokens = this.tokensOf(choice, from, from + BLOCK_TOKENS);
      if (tokens.length < BLOCK_TOKENS) break;
      chain.push(extend(chain.at(-1) ?? this.keys.root, tokens));
      plainChain.push(extend(plainChain.at(-1) ?? this.hasher.plainRoot, tokens));
    }
    return chain;
  }

  isIn({ scopeTag, key }: Selection): boolean {
    if (scopeTag !== null && this.keys.scopeTag !== scopeTag) return false;
    return key === null || this.chain.includes(key) || this.choices.some(({ chain }) => chain.includes(key));
  }

  /** Complete blocks of a choice, as far as this side has heard. */
  completeBlocks(choice: number): number {
    const completion = this.choices[choice]?.output.length ?? 0;
    const computed = completion === 0 ? this.promptDone : this.promptTokens + completion - 1;
    return Math.floor(computed / BLOCK_TOKENS);
  }

  use(): CacheUse {
    const { live, memory, disk } = this.hits;
    const prefixId = this.deepest ? prefixIdOf(this.deepest.key) : null;
    const { earlier } = this;
    if (earlier) {
      return {
        ...earlier,
        writeTokens: earlier.writeTokens + this.writeTokens,
        prefixId: prefixId ?? earlier.prefixId,
        restoreMs: earlier.restoreMs + this.restoreMs,
        kvBytesRead: earlier.kvBytesRead + this.kvBytesRead,
      };
    }
    return {
      promptTokens: this.promptTokens,
      hitLiveTokens: live,
      hitMemoryTokens: memory,
      hitDiskTokens: disk,
      miss: this.miss,
      restoreBytes: this.restoreBytes,
      writeTokens: this.writeTokens,
      prefixId,
      restoreMs: this.restoreMs,
      kvBytesRead: this.kvBytesRead,
    };
  }
}

export function namesOf({ promptTokens, wishes }: LeaseRequest, hasher: ChainHasher, hasDisk: boolean): Names {
  const keys = hasher.scopeOf(wishes.scope);
  const tokens = wishes.read || wishes.write ? promptTokens : promptTokens.subarray(0, 0);
  const chain = chainOf(tokens, keys.root);
  return { hasher, keys, chain, plainChain: hasDisk ? chainOf(tokens, hasher.plainRoot) : [] };
}

/** Gives all of them other names. @returns for each name that one of their blocks had, roots included, the one it has now. */
export function renameLeases(
  leases: Iterable<Lease>,
  newNames: (request: LeaseRequest) => Names,
): Map<HashKey, RamName> {
  const names = new Map<HashKey, RamName>();
  for (const lease of leases) {
    const chains = () => [lease.chain, ...lease.choices.map(({ chain }) => chain)].map((chain) => [...chain]);
    const [oldRoot, before] = [lease.keys.root, chains()];
    lease.rename(newNames(lease.request));
    const { root, scopeTag } = lease.keys;
    names.set(oldRoot, { key: root, origin: { parent: '', scopeTag } });
    chains().forEach((chain, index) => {
      chain.forEach((key, block) => {
        const origin = { parent: block === 0 ? '' : (chain[block - 1] as HashKey), scopeTag };
        names.set(before[index]?.[block] as HashKey, { key, origin });
      });
    });
    const { deepest } = lease;
    if (deepest) lease.deepest = { ...deepest, key: (names.get(deepest.key) as RamName).key };
  }
  return names;
}

/** Choices share the whole blocks of the prompt; what follows each has for itself. */
export function blocksNeeded(promptTokens: number, totalTokens: number, numChoices: number): number {
  const shared = Math.floor(promptTokens / BLOCK_TOKENS);
  return shared + numChoices * (Math.ceil(totalTokens / BLOCK_TOKENS) - shared);
}
