// Decides which sequences run and what the standing plan is; where each starts and what it keeps is the cache's business
// (kv/cache.ts). Pure policy: no clock, no I/O, no native; called from one thread by engine.ts. A step lets `promptDone`
// catch up with the prompt and then adds a token to each choice; native does that by itself, so a new plan is due only when
// something arrived, ended or changed from prompt to output.

import type { KvCache } from '../kv/cache.js';
import type { Lease } from '../kv/lease.js';
import type { CacheCover, CacheUse } from '../kv/types.js';
import type { Plan, PlanEntry, PlannedSequence, SequenceDefinition } from './plan.js';
import type { Report } from './reports.js';
import { allChoices, type Sequence, type SequenceState } from './sequence.js';
import type { Priority } from './types.js';

export interface SchedulerLimits {
  /** Sequences that native holds at once, those that it is about to release included. */
  readonly maxRunning: number;
  /** Requests of a class and those above it that may wait beyond those. */
  readonly maxWaiting: number;
  readonly kvBlocks: number;
  /** Most rows of a step without decoders: enough for the matrix kernels to reach their peak. */
  readonly stepTokens: number;
  /** Prompt rows that a step adds to decoding rows: bounds the pause between two tokens of a stream. */
  readonly mixedPrefillTokens: number;
}

export type Verdict =
  /** `position`: as in `position()`. */
  | { readonly t: 'accepted'; readonly position: number; readonly cover: CacheCover }
  | { readonly t: 'queue-full' }
  /** It would not fit if it ran alone. */
  | { readonly t: 'never-fits'; readonly blocks: number };

/** Best first. */
const CLASSES: readonly Priority[] = ['interactive', 'normal', 'background'];

// The oldest prompt takes three quarters of a step's prompt rows when others are due too, so that a short prompt behind
// a long one keeps moving without making the long one wait for it.
const OLDEST_PROMPT_SHARE = 0.75;

export class Scheduler {
  readonly #limits: SchedulerLimits;
  readonly #cache: KvCache;
  readonly #waiting: Record<Priority, Sequence[]> = { interactive: [], normal: [], background: [] };
  /** Forgotten in this turn: what they used is still asked for. */
  readonly #gone = new Map<number, Lease>();
  /** In order of admission. */
  readonly #running = new Map<number, Sequence>();
  #plan: Plan;

  constructor(limits: SchedulerLimits, cache: KvCache) {
    this.#limits = limits;
    this.#cache = cache;
    this.#plan = { number: 0, stepTokens: limits.stepTokens, entries: [], definitions: [] };
  }

  /** Takes a new sequence into the queue, or says why not. Its id must be new. */
  add(definition: SequenceDefinition, priority: Priority): Verdict {
    const { promptTokens, numChoices, contextTokens, cache: wishes } = definition;
    const totalTokens = Math.min(promptTokens.length + definition.stop.maxTokens, contextTokens);
    const lease = this.#cache.open({ promptTokens, numChoices, totalTokens, wishes });
    if (lease.numBlocks > this.#limits.kvBlocks) return { t: 'never-fits', blocks: lease.numBlocks };
    const sequence: Sequence = { id: definition.sequence, priority, definition, lease, state: { t: 'waiting' } };
    const queue = this.#waiting[priority];
    queue.push(sequence);
    if (this.#numDelayed(priority) > this.#limits.maxWaiting) {
      queue.pop();
      return { t: 'queue-full' };
    }
    return { t: 'accepted', position: this.position(sequence.id), cover: this.#cache.cover(lease) };
  }

  /** Ends a sequence whatever its state; one that is unknown or leaving already stays as it is. */
  cancel(id: number): void {
    for (const queue of Object.values(this.#waiting)) {
      const index = queue.findIndex((sequence) => sequence.id === id);
      if (index >= 0) for (const left of queue.splice(index, 1)) this.#close(left);
    }
    const sequence = this.#running.get(id);
    if (!sequence || sequence.state.t === 'leaving') return;
    const isKnown = sequence.state.t !== 'restoring';
    sequence.state = { t: 'leaving', isKnown };
    if (!isKnown) this.#cache.abandon(sequence.lease);
  }

  /** A fact from native. Throws on one that cannot be: a bug on one side of the boundary. */
  apply(report: Report): void {
    const sequence = this.#running.get(report.sequence);
    if (!sequence) throw new Error(`native reports '${report.t}' of sequence ${report.sequence}, which is not running`);
    const { state, lease } = sequence;
    this.#cache.started(lease);
    switch (report.t) {
      case 'progress':
        this.#cache.progress(lease, report.promptDone);
        if (state.t === 'prefill') state.promptDone = report.promptDone;
        if (report.promptDone === report.promptTotal) startDecoding(sequence);
        return;
      case 'tokens':
        this.#cache.tokens(lease, report.choice, report.tokens);
        startDecoding(sequence);
        return;
      case 'point':
        this.#cache.pointTaken(lease, report.choice, report.position, report.point, report.bytes);
        return;
      case 'ended':
        if (state.t !== 'prefill' && state.t !== 'decode' && state.t !== 'preempted') return; // crossed our cancel
        if (!state.openChoices.delete(report.choice)) {
          throw new Error(`native ends choice ${report.choice} of sequence ${sequence.id} twice`);
        }
        if (state.openChoices.size === 0) sequence.state = { t: 'leaving', isKnown: true };
        return;
      case 'failed':
        sequence.state = { t: 'leaving', isKnown: true };
        return;
      case 'released':
        if (state.t === 'preempted') this.#suspend(sequence);
        else if (state.t === 'leaving') this.#forget(sequence);
        else throw new Error(`native releases sequence ${sequence.id}, which is in ${state.t}`);
        return;
    }
  }

  /** Sequences that wait for the disk: prompt tokens in place, and those in place once all is read. */
  restoring(): { readonly id: number; readonly done: number; readonly total: number }[] {
    const restoring = [...this.#running.values()].filter(({ state }) => state.t === 'restoring');
    return restoring.map(({ id, lease }) => {
      return { id, done: lease.hits.live + lease.hits.memory, total: lease.startTokens };
    });
  }

  /** What the sequence has had of the cache so far; null: it never ran. */
  useOf(id: number): CacheUse | null {
    return this.#leaseOf(id)?.use() ?? null;
  }

  /** The sequence's request is over: what it hit and missed counts. */
  account(id: number): void {
    const lease = this.#leaseOf(id);
    if (lease && lease.state !== 'restoring') this.#cache.account(lease, lease.promptDone);
  }

  /** What was told of those that went in this turn is not asked for any more. */
  endTurn(): void {
    this.#gone.clear();
  }

  #leaseOf(id: number): Lease | undefined {
    return this.#running.get(id)?.lease ?? this.#gone.get(id);
  }

  /** Admits what may run now. @returns the new plan, or null: the standing one still says what is wanted. */
  plan(): Plan | null {
    const admitted = [...this.#settleRestored(), ...this.#admit()];
    this.#preempt();
    const definitions = admitted.map((sequence): PlannedSequence => {
      const { definition, lease } = sequence;
      sequence.state = { t: 'prefill', openChoices: allChoices(definition), promptDone: lease.startTokens };
      return { ...definition, placement: this.#cache.placementOf(lease) };
    });
    const { stepTokens, entries } = this.#entries();
    const standing = this.#plan;
    if (definitions.length === 0 && stepTokens === standing.stepTokens && sameEntries(entries, standing.entries)) {
      return null;
    }
    this.#plan = { number: standing.number + 1, stepTokens, entries, definitions };
    return this.#plan;
  }

  /** 0: not waiting, or admitted by the next plan. 1: next in line; n: n - 1 waiting requests go first. */
  position(id: number): number {
    return this.positions().get(id) ?? 0;
  }

  /** `position` of all that the next plan leaves waiting, in order. */
  positions(): Map<number, number> {
    const admissible = new Set(this.#admissible());
    const left = this.#inOrder().filter((sequence) => !admissible.has(sequence));
    return new Map(left.map((sequence, index) => [sequence.id, index + 1]));
  }

  get numWaiting(): number {
    return CLASSES.reduce((sum, priority) => sum + this.#waiting[priority].length, 0);
  }

  /** Sequences that compute; those about to be released are not counted. */
  get numRunning(): number {
    let running = 0;
    for (const { state } of this.#running.values()) if (!leaves(state)) running++;
    return running;
  }

  /** Throws unless every rule of the states and budgets holds. For tests, after each of their steps. */
  checkIntegrity(): void {
    const check = (holds: boolean, rule: string): void => {
      if (!holds) throw new Error(`scheduler: ${rule}`);
    };
    const { maxRunning, maxWaiting } = this.#limits;
    this.#cache.checkIntegrity();
    check(this.#running.size <= maxRunning, 'running sequences stay within maxRunning');
    const preempted = this.#inOrder().filter(isContinued).length;
    check(this.numWaiting - preempted <= CLASSES.length * (maxWaiting + maxRunning), 'the queue is bounded');
    for (const priority of CLASSES) {
      const queue = this.#waiting[priority];
      check(
        queue.every((sequence) => sequence.state.t === 'waiting' && sequence.priority === priority),
        'a queue holds waiting sequences of its class',
      );
      check(
        queue.every((sequence, index) => index === 0 || (queue[index - 1] as Sequence).id < sequence.id),
        'a queue is first come first served',
      );
    }
    for (const { id, state, definition, lease } of this.#running.values()) {
      check(state.t !== 'waiting', `running sequence ${id} is not waiting`);
      if (state.t === 'prefill' || state.t === 'decode') check(lease.state === 'ready', `sequence ${id} has its slots`);
      if (state.t === 'prefill')
        check(state.promptDone <= definition.promptTokens.length, 'no more done than there is');
      if (state.t === 'prefill' || state.t === 'decode') check(state.openChoices.size > 0, 'a choice is open');
    }
  }

  /**
   * Waiting requests of this class and those above it, beyond those that run next: at once, or as soon as native has
   * released what is leaving. What waits below keeps nobody out, since it would be preempted itself.
   */
  #numDelayed(priority: Priority): number {
    const counts = (sequence: Sequence): boolean =>
      !isContinued(sequence) && rankOf(sequence.priority) <= rankOf(priority);
    // One that waits for another's prefix holds no place, but there is one for it: it is not what makes the queue long.
    const fresh = this.#inOrder().filter(counts).length;
    const admissible = this.#admissible(() => true).filter(counts).length;
    return fresh - admissible - (this.#running.size - this.numRunning);
  }

  #inOrder(): Sequence[] {
    return CLASSES.flatMap((priority) => this.#waiting[priority]);
  }

  /**
   * The front of the queue as far as it fits now, whatever the cache may spare it: an estimate, which admits nobody. Unless
   * `counts` says otherwise, those that wait for another's prefix are not in it.
   */
  #admissible(counts = ({ lease }: Sequence) => !this.#cache.isBlocked(lease)): Sequence[] {
    const admitted: Sequence[] = [];
    let places = this.#limits.maxRunning - this.#running.size;
    let blocks = this.#cache.ram.available;
    for (const sequence of this.#inOrder()) {
      if (!counts(sequence)) continue;
      if (places === 0 || sequence.lease.numBlocks > blocks) return admitted;
      admitted.push(sequence);
      places -= 1;
      blocks -= sequence.lease.numBlocks;
    }
    return admitted;
  }

  /** Nobody overtakes a head that does not fit: large requests do not starve. Who waits for a prefix is stepped over. */
  #admit(): Sequence[] {
    const ready: Sequence[] = [];
    for (const priority of CLASSES) {
      for (const sequence of [...this.#waiting[priority]]) {
        if (this.#running.size === this.#limits.maxRunning) return ready;
        const admission = this.#cache.admit(sequence.lease);
        if (admission === 'full') return ready;
        if (admission === 'blocked') continue;
        this.#waiting[priority].splice(this.#waiting[priority].indexOf(sequence), 1);
        this.#running.set(sequence.id, sequence);
        if (admission === 'ready') ready.push(sequence);
        else sequence.state = { t: 'restoring' };
      }
    }
    return ready;
  }

  /** Restores that have ended: well, without success (it waits again, at its old place), or unwanted meanwhile. */
  #settleRestored(): Sequence[] {
    const ready: Sequence[] = [];
    for (const sequence of [...this.#running.values()]) {
      const { state, lease } = sequence;
      if (lease.state === 'restoring') continue;
      if (state.t === 'leaving' && !state.isKnown) this.#forget(sequence);
      if (state.t !== 'restoring') continue;
      if (lease.state === 'ready') ready.push(sequence);
      else this.#queueAgain(sequence);
    }
    return ready;
  }

  /**
   * Makes room for whoever waits in a higher class: of the lowest class the youngest go, whose answers others wait for
   * shortest. They come back by themselves, from the points that they leave. Nobody goes before it looks as if enough can;
   * slots that they share with those who stay are counted all the same.
   */
  #preempt(): void {
    const staying = [...this.#running.values()].filter(({ state }) => !leaves(state));
    let places = this.#limits.maxRunning - staying.length;
    // What is on its way out counts, rows included that the disk still writes from.
    const held = staying.reduce((sum, { lease }) => sum + lease.numBlocks, 0);
    let blocks = Math.max(this.#cache.ram.available, this.#limits.kvBlocks - held);
    for (const { priority, lease } of this.#inOrder()) {
      if (this.#cache.isBlocked(lease)) continue;
      const candidates = staying
        .filter((other) => rankOf(other.priority) > rankOf(priority) && this.#mayLeave(other))
        .sort((a, b) => rankOf(b.priority) - rankOf(a.priority) || b.id - a.id);
      if (candidates.length === 0) return;
      const wanted = this.#cache.slotsWanted(lease);
      const leaving: Sequence[] = [];
      for (const candidate of candidates) {
        if (places > 0 && blocks >= wanted) break;
        leaving.push(candidate);
        places += 1;
        blocks += candidate.lease.numBlocks;
      }
      if (places === 0 || blocks < wanted) return;
      places -= 1;
      blocks -= wanted;
      for (const sequence of leaving) {
        const { openChoices } = sequence.state as { openChoices: Set<number> };
        sequence.state = { t: 'preempted', openChoices };
      }
    }
  }

  /** Whether what it has computed is found again. Choices would each need their own way back. */
  #mayLeave({ state, definition, lease }: Sequence): boolean {
    return (
      (state.t === 'prefill' || state.t === 'decode') && definition.numChoices === 1 && this.#cache.canSpill(lease)
    );
  }

  /** Native has let go of it: it waits again, and will go on behind the last token that it generated. */
  #suspend(sequence: Sequence): void {
    const { definition, lease } = sequence;
    sequence.lease = this.#cache.suspend(lease);
    const { promptTokens } = sequence.lease.request;
    const generated = promptTokens.length - definition.promptTokens.length;
    sequence.definition = { ...definition, promptTokens, numGenerated: definition.numGenerated + generated };
    this.#queueAgain(sequence);
  }

  /** At its old place among its class. */
  #queueAgain(sequence: Sequence): void {
    this.#running.delete(sequence.id);
    sequence.state = { t: 'waiting' };
    const queue = this.#waiting[sequence.priority];
    const behind = queue.findIndex((other) => other.id > sequence.id);
    queue.splice(behind < 0 ? queue.length : behind, 0, sequence);
  }

  #forget(sequence: Sequence): void {
    this.#close(sequence);
    this.#running.delete(sequence.id);
  }

  #close({ id, lease }: Sequence): void {
    // One that never ran has used nothing.
    if (lease.state !== 'open' || lease.earlier !== null) this.#gone.set(id, lease);
    this.#cache.close(lease);
  }

  #entries(): { stepTokens: number; entries: PlanEntry[] } {
    const decoding: Sequence[] = [];
    const prefilling: Sequence[] = [];
    let decodeRows = 0;
    for (const sequence of this.#running.values()) {
      if (sequence.state.t === 'prefill') prefilling.push(sequence);
      if (sequence.state.t !== 'decode') continue;
      decoding.push(sequence);
      decodeRows += sequence.state.openChoices.size;
    }
    const { stepTokens, mixedPrefillTokens } = this.#limits;
    const promptRows = decodeRows === 0 ? stepTokens : mixedPrefillTokens;
    const oldestChunk = prefilling.length > 1 ? Math.ceil(promptRows * OLDEST_PROMPT_SHARE) : 0;
    const entries = [...decoding, ...prefilling].map((sequence) => ({
      sequence: sequence.id,
      maxChunk: sequence === prefilling[0] ? oldestChunk : 0,
      point: sequence.state.t === 'prefill' ? sequence.lease.extraPoint : 0,
    }));
    // Without a prompt the rows of a step are the decoders' own: one number, whatever ends, so that the plan can stand.
    return { stepTokens: prefilling.length === 0 ? stepTokens : decodeRows + promptRows, entries };
  }
}

/** 0: the highest class. */
function rankOf(priority: Priority): number {
  return CLASSES.indexOf(priority);
}

/** It is on its way out of native. */
function leaves(state: SequenceState): boolean {
  return state.t === 'leaving' || state.t === 'preempted';
}

/** It has run before. */
function isContinued({ lease }: Sequence): boolean {
  return lease.earlier !== null;
}

function startDecoding(sequence: Sequence): void {
  if (sequence.state.t === 'prefill') sequence.state = { t: 'decode', openChoices: sequence.state.openChoices };
}

function sameEntries(a: readonly PlanEntry[], b: readonly PlanEntry[]): boolean {
  return (
    a.length === b.length &&
    a.every((entry, index) => {
      const other = b[index] as PlanEntry;
      return entry.sequence === other.sequence && entry.maxChunk === other.maxChunk && entry.point === other.point;
    })
  );
}
