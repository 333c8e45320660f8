// Whether the disk tier is worth asking. After three failures in ten seconds, or one that is stuck, it is left alone for a
// while, then tried with one request, and left alone twice as long when that fails too. Says in a sentence what is wrong. Time
// is monotonic and comes from the caller; a corrupt record is no failure of the disk as a whole.
//
//            third failure within 10 s            its time is over
//   closed ───────────────────────────▶ open ────────────────────────▶ half-open: one probe
//     ▲                                   ▲── the probe fails: twice as long ──┤
//     └───────────────────────── the probe succeeds ───────────────────────────┘

import type { StoreStatus } from './store.js';

const FAILURES_TO_OPEN = 3;
const WINDOW_MS = 10_000;
const FIRST_OPEN_MS = 5_000;
const LONGEST_OPEN_MS = 300_000;

export type DiskFailure = 'read-error' | 'write-error' | 'too-slow' | 'stuck';

type Breaker =
  | { readonly t: 'closed' }
  | { readonly t: 'open'; readonly untilMs: number }
  | { readonly t: 'half-open'; readonly probeMs: number };

const FAILURE_WORDS: Readonly<Record<DiskFailure, string>> = {
  'read-error': 'a read failed',
  'write-error': 'a write failed',
  'too-slow': 'a read took longer than computing anew would have',
  stuck: 'writes do not come to an end',
};

const WRITE_PROBLEMS: Readonly<Partial<Record<StoreStatus, string>>> = {
  'no-space': 'the disk is full: new prefixes are not stored, stored ones are still used',
  'read-only': 'the cache directory cannot be written: new prefixes are not stored, stored ones are still used',
  'io-error': 'writing to the cache directory fails: new prefixes are not stored',
};

const GONE =
  'the cache directory was removed or replaced: new prefixes are not stored, those that were are used until a restart';

export class DiskHealth {
  #breaker: Breaker = { t: 'closed' };
  /** Of the last failures, the oldest first; at most as many as open the breaker. */
  #failuresMs: number[] = [];
  #lastFailure = '';
  #openMs = FIRST_OPEN_MS;
  #timesOpened = 0;
  #writeProblem = '';
  #writeDetail = '';
  /** Not '': never used again. */
  #givenUp = '';
  #isThere = true;

  /** What mayUse would say; changes nothing. */
  allows(nowMs: number): boolean {
    if (this.#givenUp !== '') return false;
    const breaker = this.#breaker;
    if (breaker.t === 'closed') return true;
    // A probe of which nothing was heard for that long is given up and the next one allowed.
    return nowMs >= (breaker.t === 'open' ? breaker.untilMs : breaker.probeMs + this.#openMs);
  }

  /** Whether to use the disk now. True for one request only while the breaker is half open: its outcome decides. */
  mayUse(nowMs: number): boolean {
    if (!this.allows(nowMs)) return false;
    if (this.#breaker.t !== 'closed') this.#breaker = { t: 'half-open', probeMs: nowMs };
    return true;
  }

  succeeded(): void {
    // While it is open, only stragglers from before come in.
    if (this.#breaker.t !== 'half-open') return;
    this.#breaker = { t: 'closed' };
    this.#failuresMs = [];
    this.#openMs = FIRST_OPEN_MS;
  }

  /** @param detail what the store or the system said, for people; may be empty. */
  failed(failure: DiskFailure, detail: string, nowMs: number): void {
    if (this.#breaker.t === 'open') return;
    this.#lastFailure = FAILURE_WORDS[failure] + (detail === '' ? '' : ` (${detail})`);
    if (this.#breaker.t === 'half-open') {
      this.#openMs = Math.min(this.#openMs * 2, LONGEST_OPEN_MS);
      this.#open(nowMs);
      return;
    }
    this.#failuresMs = [...this.#failuresMs, nowMs].filter((atMs) => nowMs - atMs < WINDOW_MS);
    // What is stuck has taken its time already.
    if (this.#failuresMs.length >= FAILURES_TO_OPEN || failure === 'stuck') this.#open(nowMs);
  }

  /** What the store says of its writes. */
  writes(status: StoreStatus, detail: string): void {
    this.#writeProblem = WRITE_PROBLEMS[status] ?? '';
    this.#writeDetail = detail === '' ? '' : ` (${detail})`;
  }

  directoryIs(isThere: boolean): void {
    this.#isThere = isThere;
  }

  get isThere(): boolean {
    return this.#isThere;
  }

  /** For good, for this reason. */
  giveUp(words: string): void {
    this.#givenUp = words;
  }

  /** '' or what is wrong, in a sentence. */
  problem(nowMs: number): string {
    if (this.#givenUp !== '') return `Prompt cache: ${this.#givenUp}.`;
    const parts: string[] = [];
    if (this.#breaker.t === 'open') {
      const seconds = Math.ceil((this.#breaker.untilMs - nowMs) / 1000);
      const when = seconds > 0 ? `for another ${seconds} s` : 'until a request has tried it again';
      parts.push(`the disk is not used ${when}: ${this.#lastFailure}`);
    } else if (this.#breaker.t === 'half-open') parts.push(`the disk is being tried again after ${this.#lastFailure}`);
    if (!this.#isThere) parts.push(GONE);
    if (this.#writeProblem !== '') parts.push(this.#writeProblem + this.#writeDetail);
    return parts.length === 0 ? '' : `Prompt cache: ${parts.join('; ')}.`;
  }

  /** '' or which problem it is, the same however long it lasts: for those who are told once. */
  get condition(): string {
    const isAlone = this.#breaker.t === 'closed' ? '' : 'left alone';
    return [this.#givenUp, isAlone, this.#isThere ? '' : GONE, this.#writeProblem]
      .filter((part) => part !== '')
      .join('; ');
  }

  get canWrite(): boolean {
    return this.#writeProblem === '' && this.#givenUp === '' && this.#isThere;
  }

  get isOpen(): boolean {
    return this.#breaker.t !== 'closed';
  }

  get timesOpened(): number {
    return this.#timesOpened;
  }

  #open(nowMs: number): void {
    this.#breaker = { t: 'open', untilMs: nowMs + this.#openMs };
    this.#failuresMs = [];
    this.#timesOpened++;
  }
}
