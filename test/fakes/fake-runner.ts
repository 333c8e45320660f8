// A Runner without C++: the next token is a hash of the context, everything else is as native/abi/engine.h promises,
// and a plan that breaks its rules throws: slots that others write, points that were never taken, rows that are not this
// prompt's. Same requests, same tokens, whatever else runs and whatever was cached. Steps by itself, or by step().

import type { Plan, PlanEntry, PlannedSequence } from '../../src/engine/plan.js';
import type { Ended, Report } from '../../src/engine/reports.js';
import type { Runner, RunnerStats } from '../../src/engine/runner.js';
import type { GeneratedToken } from '../../src/engine/types.js';
import { BLOCK_TOKENS } from '../../src/kv/block.js';
import { blocksNeeded } from '../../src/kv/lease.js';
import { FakeKvMemory } from './fake-kv-memory.js';

export interface FakeRunnerOptions {
  /** Default 256. */
  readonly vocabularySize?: number;
  /** Text of a token, for stop strings; default: one byte, id modulo 256. */
  readonly tokenBytes?: (id: number) => Uint8Array;
  /** Slots; default 1024. */
  readonly kvBlocks?: number;
  /** Sequences held at once; more is the planner's bug. Default 16. */
  readonly maxSequences?: number;
  /** null: only step() computes. Otherwise a step begins so long after the last; default 0. */
  readonly stepMs?: number | null;
  /** A sequence whose context ever has this token fails, as if its arithmetic met a NaN. */
  readonly poisonToken?: number;
  /** How it fails, as native/base/status.h numbers it; default 5, kEngine. */
  readonly poisonCode?: number;
  /** Shared with a FakeStore; default: its own. */
  readonly memory?: FakeKvMemory;
}

interface FakeChoice {
  readonly index: number;
  readonly slots: readonly number[];
  /** Rows in place. */
  length: number;
  /** Position of the last point taken, or where it started. */
  pointed: number;
  lastToken: number;
  completionTokens: number;
  reasoningTokens: number;
  inReasoning: boolean;
  answer: number[];
  over: boolean;
}

type End = Pick<Ended, 'reason' | 'match'>;

interface FakeSequence {
  readonly definition: PlannedSequence;
  /** Row after each prompt token, as it must become. */
  readonly promptRows: Uint32Array;
  promptDone: number;
  /** Of the plan's entry. */
  extraPoint: number;
  /** The first alone until the prompt is in place. */
  readonly choices: FakeChoice[];
  failed: boolean;
}

const ROW_BEFORE_ALL = 0x811c9dc5;
const KV_BLOCK_BYTES = 1 << 16;
const POINT_BYTES = 1 << 12;

/** 32-bit FNV-1a step over a whole word. */
const mix = (hash: number, word: number): number => Math.imul(hash ^ word, 0x01000193) >>> 0;
const scramble = (hash: number): number => {
  let h = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  h = Math.imul(h ^ (h >>> 12), 0x297a2d39);
  return (h ^ (h >>> 15)) >>> 0;
};
const wholeBlocks = (tokens: number): number => Math.floor(tokens / BLOCK_TOKENS);
const isPrefilling = ({ definition, promptDone }: FakeSequence): boolean => promptDone < definition.promptTokens.length;

export class FakeRunner implements Runner {
  onWake = (): void => {};
  /** Every plan submitted, newest last. */
  readonly plans: Plan[] = [];
  readonly memory: FakeKvMemory;
  readonly #options: Required<Omit<FakeRunnerOptions, 'poisonToken' | 'memory'>> & { poisonToken: number | null };
  readonly #sequences = new Map<number, FakeSequence>();
  #entries: readonly PlanEntry[] = [];
  #stepTokens = 1;
  #reports: Report[] = [];
  #wakeDue = false;
  #stepTimer: NodeJS.Timeout | null = null;
  #closed = false;
  #counts = { steps: 0, prefillTokens: 0, decodeTokens: 0 };

  constructor({ memory = new FakeKvMemory(), ...options }: FakeRunnerOptions = {}) {
    this.memory = memory;
    this.#options = {
      vocabularySize: 256,
      tokenBytes: (id) => Uint8Array.of(id & 255),
      kvBlocks: 1024,
      maxSequences: 16,
      stepMs: 0,
      poisonToken: null,
      poisonCode: 5,
      ...options,
    };
    memory.isNamed = (slot) => this.#namedSlots().has(slot);
  }

  submit(plan: Plan): void {
    const rule = (holds: boolean, text: string): void => {
      if (!holds) throw new Error(`plan ${plan.number}: ${text}`);
    };
    rule(!this.#closed, 'submitted after close');
    rule(plan.number === (this.plans.at(-1)?.number ?? 0) + 1, 'numbers grow by one');
    rule(plan.stepTokens >= 1, 'a step has a row');
    const named = new Set(plan.entries.map((entry) => entry.sequence));
    rule(named.size === plan.entries.length, 'a sequence is named once');
    for (const definition of plan.definitions) {
      rule(named.has(definition.sequence), 'a definition belongs to an entry');
      rule(!this.#sequences.has(definition.sequence), 'a definition is sent once');
      // Those that leave with this plan still have their slots until their release is reported.
      this.#define(definition, rule);
    }
    for (const [id, sequence] of this.#sequences) if (!named.has(id)) this.#release(id, sequence);
    for (const { sequence, point } of plan.entries) {
      const known = this.#sequences.get(sequence);
      if (!known) throw new Error(`plan ${plan.number}: sequence ${sequence} was never defined`);
      rule(point % BLOCK_TOKENS === 0, 'a point lies at a multiple of 128');
      known.extraPoint = point;
    }
    rule(this.#sequences.size <= this.#options.maxSequences, 'too many sequences');
    this.plans.push(plan);
    this.#entries = plan.entries;
    this.#stepTokens = plan.stepTokens;
    this.#scheduleStep();
  }

  drain(): Report[] {
    const reports = this.#reports;
    this.#reports = [];
    return reports;
  }

  stats(): RunnerStats {
    return {
      plan: this.plans.length,
      ...this.#counts,
      prefillNs: this.#counts.prefillTokens * 1e6,
      sequences: this.#sequences.size,
      kvBlocksUsed: this.#namedSlots().size,
      kvBlocksLimit: this.#options.kvBlocks,
      kvBlockBytes: KV_BLOCK_BYTES,
      privateBytes: this.#sequences.size << 16,
      pointBytes: this.memory.numPoints * POINT_BYTES,
      paths: [0, 0, 0, 0, 0, 0, 0, 0],
    };
  }

  releasePoint(point: number): void {
    this.memory.releasePoint(point);
  }

  async close(): Promise<void> {
    this.#closed = true;
    if (this.#stepTimer) clearTimeout(this.#stepTimer);
    this.#sequences.clear();
  }

  /** One pass of the model. @returns false when the plan leaves nothing to compute. */
  step(): boolean {
    let rows = 0;
    for (const { sequence: id } of this.#entries) {
      const sequence = this.#sequences.get(id);
      if (!sequence || isPrefilling(sequence)) continue;
      for (const choice of sequence.choices.filter(({ over }) => !over)) {
        if (choice.over) continue; // a sister failed in this very step
        this.#write(sequence, choice, choice.lastToken);
        this.#takePoint(sequence, choice);
        this.#generate(sequence, choice);
        this.#counts.decodeTokens += 1;
        rows += 1;
      }
    }
    let left = this.#stepTokens - rows;
    for (const { sequence: id, maxChunk } of this.#entries) {
      const sequence = this.#sequences.get(id);
      if (!sequence || sequence.failed || !isPrefilling(sequence) || left <= 0) continue;
      const { promptDone } = sequence;
      const due = sequence.definition.promptTokens.length - promptDone;
      let chunk = Math.min(due, left, maxChunk === 0 ? due : maxChunk);
      // A point can be taken at the last boundary that a chunk passes; any other wanted one ends its chunk.
      const point = nextPoint(sequence, promptDone);
      if (point < wholeBlocks(promptDone + chunk) * BLOCK_TOKENS) chunk = point - promptDone;
      left -= chunk;
      rows += chunk;
      this.#prefill(sequence, chunk);
    }
    if (rows === 0) return false;
    this.#counts.steps += 1;
    return true;
  }

  /** Takes a new sequence whose rows and point are what they must be. */
  #define(definition: PlannedSequence, rule: (holds: boolean, text: string) => void): void {
    const { sequence: id, promptTokens, numGenerated, numChoices, contextTokens, stop, placement } = definition;
    const { slots, startPoint, startTokens, frozenTokens, points } = placement;
    rule(numGenerated === 0 || numChoices === 1, 'a sequence that goes on has one choice');
    const totalTokens = Math.min(promptTokens.length - numGenerated + stop.maxTokens, contextTokens);
    rule(slots.length === blocksNeeded(promptTokens.length, totalTokens, numChoices), `${slots.length} slots of ${id}`);
    rule(new Set(slots).size === slots.length, `a sequence names a slot once: ${slots} of ${id}`);
    rule(
      slots.every((slot) => slot >= 0 && slot < this.#options.kvBlocks),
      `slots of ${id} exist`,
    );
    rule(startTokens < promptTokens.length, `a token of ${id} is left to compute`);
    rule(
      points.every((at, index) => at % BLOCK_TOKENS === 0 && at > (points[index - 1] ?? 0)),
      `points of ${id} ascend in multiples of 128: ${points}`,
    );
    if (startPoint === 0) {
      rule(startTokens % BLOCK_TOKENS === 0 && frozenTokens % BLOCK_TOKENS === 0, `${id} is replayed from a boundary`);
      rule(startTokens <= frozenTokens && frozenTokens < promptTokens.length, `${id} starts at a point or at 0`);
    } else rule(frozenTokens === 0, `${id} starts at a point or is replayed`);

    const promptRows = new Uint32Array(promptTokens.length);
    promptTokens.reduce((row, token, index) => (promptRows[index] = mix(row, token)), ROW_BEFORE_ALL);
    const blocksInPlace = wholeBlocks(Math.max(startTokens, frozenTokens));
    slots.forEach((slot, block) => {
      for (const other of this.#sequences.values()) {
        if (!other.definition.placement.slots.includes(slot)) continue;
        const isDone = block < blocksInPlace && isComplete(other, slot);
        rule(isDone, `slot ${slot} of ${id} is used by ${other.definition.sequence}`);
      }
    });
    const firstChoice = Math.ceil(totalTokens / BLOCK_TOKENS);
    const choice = newChoice(definition, 0, slots.slice(0, firstChoice));
    choice.length = Math.max(startTokens, frozenTokens);
    choice.pointed = choice.length;
    this.#checkRows(choice, promptRows.subarray(0, blocksInPlace * BLOCK_TOKENS));
    if (startPoint !== 0) {
      const { position, hash, openRows } = this.memory.point(startPoint);
      rule(
        position === startTokens && hash === promptRows[position - 1],
        `point ${startPoint} is one of ${id}'s prompt`,
      );
      for (const [index, row] of openRows.entries()) this.#setRow(choice, blocksInPlace * BLOCK_TOKENS + index, row);
    }
    this.#sequences.set(id, {
      definition,
      promptRows,
      promptDone: startTokens,
      extraPoint: 0,
      choices: [choice],
      failed: false,
    });
  }

  #prefill(sequence: FakeSequence, chunk: number): void {
    const { definition } = sequence;
    const { promptTokens, stop } = definition;
    const first = sequence.choices[0] as FakeChoice;
    for (let left = chunk; left > 0; left--) {
      const token = promptTokens[sequence.promptDone] as number;
      // A replay makes windows again; rows before the end of what is frozen are in place.
      if (sequence.promptDone === first.length) this.#write(sequence, first, token);
      sequence.promptDone += 1;
    }
    this.#counts.prefillTokens += chunk;
    this.#report({
      t: 'progress',
      sequence: definition.sequence,
      promptDone: sequence.promptDone,
      promptTotal: promptTokens.length,
    });
    this.#takePoint(sequence, first);
    if (isPrefilling(sequence)) return;
    this.#checkRows(first, sequence.promptRows);
    const shared = wholeBlocks(promptTokens.length);
    const own = first.slots.length - shared;
    for (let index = 1; index < definition.numChoices; index++) {
      const from = first.slots.length + (index - 1) * own;
      const slots = [...first.slots.slice(0, shared), ...definition.placement.slots.slice(from, from + own)];
      const choice = newChoice(definition, index, slots);
      if (first.slots.length > shared && stop.maxTokens > 0)
        this.memory.rowsOf(slots[shared] as number).set(this.memory.rowsOf(first.slots[shared] as number));
      choice.length = first.length;
      choice.pointed = Math.max(first.pointed, shared * BLOCK_TOKENS);
      sequence.choices.push(choice);
    }
    for (const id of promptTokens.subarray(promptTokens.length - definition.numGenerated)) {
      const token = this.#accept(definition, first, id);
      if (endOf(definition, first, token)) throw new Error(`${definition.sequence} goes on behind its end`);
    }
    for (const choice of [...sequence.choices]) {
      if (sequence.failed) return;
      if (stop.maxTokens === 0) this.#end(sequence, choice, { reason: 'length', match: null });
      else this.#generate(sequence, choice);
    }
  }

  #generate(sequence: FakeSequence, choice: FakeChoice): void {
    const { definition } = sequence;
    const { sampling } = definition;
    const row = this.#row(choice, choice.length - 1);
    const hash = sampling.temperature === 0 ? row : mix(mix(row, sampling.seed >>> 0), choice.index);
    const id = this.#sample(definition, choice, hash);
    if (id === this.#options.poisonToken) {
      this.#failSequence(sequence);
      return;
    }
    const token = {
      ...this.#accept(definition, choice, id),
      logprob: definition.logprobs ? -(scramble(mix(hash, id)) % 1000) / 100 : 0,
      top: Array.from({ length: definition.topLogprobs }, (_, rank) => ({ id: (id + rank) % 256, logprob: -rank - 1 })),
    };
    this.#report({ t: 'tokens', sequence: definition.sequence, choice: choice.index, tokens: [token] });
    const end = endOf(definition, choice, token);
    if (end) this.#end(sequence, choice, end);
  }

  #accept(definition: PlannedSequence, choice: FakeChoice, id: number): GeneratedToken {
    choice.lastToken = id;
    choice.completionTokens += 1;
    const inReasoning = choice.inReasoning;
    if (inReasoning) choice.reasoningTokens += 1;
    else choice.answer.push(...this.#options.tokenBytes(id));
    if (id === definition.reasoning.endToken) choice.inReasoning = false;
    return { id, logprob: 0, top: [], inReasoning };
  }

  #sample({ stop, reasoning, eosToken }: PlannedSequence, choice: FakeChoice, hash: number): number {
    const { vocabularySize } = this.#options;
    if (choice.inReasoning && choice.reasoningTokens + 1 >= (reasoning.maxTokens ?? Infinity)) {
      return reasoning.endToken as number;
    }
    const masked = choice.completionTokens < stop.minTokens;
    let id = scramble(hash) % vocabularySize;
    while (masked && (id === eosToken || stop.tokenIds.includes(id))) id = (id + 1) % vocabularySize;
    return id;
  }

  #end(sequence: FakeSequence, choice: FakeChoice, end: End): void {
    this.#keepEnd(sequence, choice, true);
    choice.over = true;
    if (hasState(sequence, choice)) this.#checkRows(choice, sequence.promptRows);
    const { completionTokens, reasoningTokens } = choice;
    const whole = { ...end, completionTokens, reasoningTokens };
    this.#report({ t: 'ended', sequence: sequence.definition.sequence, choice: choice.index, end: whole });
  }

  #failSequence(sequence: FakeSequence): void {
    sequence.failed = true;
    for (const choice of sequence.choices) choice.over = true;
    const { poisonCode: code } = this.#options;
    this.#report({ t: 'failed', sequence: sequence.definition.sequence, code, message: 'logits are not finite' });
  }

  #release(id: number, sequence: FakeSequence): void {
    for (const choice of sequence.choices) if (!choice.over) this.#keepEnd(sequence, choice, false);
    this.#sequences.delete(id);
    this.#report({ t: 'released', sequence: id });
  }

  // --- rows and points ---

  #row({ slots }: FakeChoice, position: number): number {
    if (position < 0) return ROW_BEFORE_ALL;
    return this.memory.rowsOf(slots[wholeBlocks(position)] as number)[position % BLOCK_TOKENS] as number;
  }

  #setRow({ slots }: FakeChoice, position: number, row: number): void {
    this.memory.rowsOf(slots[wholeBlocks(position)] as number)[position % BLOCK_TOKENS] = row;
  }

  #write({ definition }: FakeSequence, choice: FakeChoice, token: number): void {
    if (choice.length >= choice.slots.length * BLOCK_TOKENS)
      throw new Error(`sequence ${definition.sequence} has no slot for position ${choice.length}`);
    this.#setRow(choice, choice.length, mix(this.#row(choice, choice.length - 1), token));
    choice.length += 1;
  }

  #checkRows(choice: FakeChoice, rows: Uint32Array): void {
    rows.forEach((row, position) => {
      const slot = choice.slots[wholeBlocks(position)];
      if (this.#row(choice, position) !== row) throw new Error(`slot ${slot} holds another row at ${position}`);
    });
  }

  #takePoint(sequence: FakeSequence, choice: FakeChoice): void {
    // What is replayed makes no points: its windows are not whole before the frozen rows end.
    const boundary = Math.min(wholeBlocks(choice.length), wholeBlocks(this.#done(sequence, choice))) * BLOCK_TOKENS;
    if (boundary > choice.pointed && nextPoint(sequence, boundary - 1) === boundary)
      this.#reportPoint(sequence, choice, boundary);
  }

  #keepEnd(sequence: FakeSequence, choice: FakeChoice, hasEnded: boolean): void {
    if (!sequence.definition.placement.keepsEnds || !hasState(sequence, choice) || sequence.failed) return;
    const boundary = wholeBlocks(choice.length) * BLOCK_TOKENS;
    if (boundary > choice.pointed) this.#reportPoint(sequence, choice, boundary);
    if (hasEnded && choice.length > choice.pointed && choice.length > boundary)
      this.#reportPoint(sequence, choice, choice.length);
  }

  #reportPoint({ definition }: FakeSequence, choice: FakeChoice, position: number): void {
    choice.pointed = position;
    const numOpen = position % BLOCK_TOKENS;
    const openRows = Uint32Array.from({ length: numOpen }, (_, index) => this.#row(choice, position - numOpen + index));
    const point = this.memory.addPoint({ position, hash: this.#row(choice, position - 1), openRows });
    const { sequence } = definition;
    this.#report({ t: 'point', sequence, choice: choice.index, position, point, bytes: POINT_BYTES });
  }

  /** Tokens computed, rows that were in place before not counted. */
  #done(sequence: FakeSequence, choice: FakeChoice): number {
    return isPrefilling(sequence) ? sequence.promptDone : choice.length;
  }

  #namedSlots(): Set<number> {
    return new Set([...this.#sequences.values()].flatMap(({ definition }) => definition.placement.slots));
  }

  // --- turns ---

  #report(report: Report): void {
    this.#reports.push(report);
    if (this.#wakeDue || this.#options.stepMs === null) return;
    this.#wakeDue = true;
    setImmediate(() => {
      this.#wakeDue = false;
      if (!this.#closed) this.onWake();
    });
  }

  #scheduleStep(): void {
    if (this.#closed || this.#stepTimer || this.#options.stepMs === null) return;
    this.#stepTimer = setTimeout(() => {
      this.#stepTimer = null;
      if (this.step()) this.#scheduleStep();
    }, this.#options.stepMs);
  }
}

function newChoice({ reasoning }: PlannedSequence, index: number, slots: readonly number[]): FakeChoice {
  return {
    index,
    slots,
    length: 0,
    pointed: 0,
    lastToken: -1,
    completionTokens: 0,
    reasoningTokens: 0,
    inReasoning: reasoning.startsInReasoning && reasoning.endToken !== null,
    answer: [],
    over: false,
  };
}

/** Without output there is one state, whatever the number of choices. */
function hasState({ definition }: FakeSequence, { index }: FakeChoice): boolean {
  return index === 0 || definition.stop.maxTokens > 0;
}

/** First position behind `position` whose point is wanted. */
function nextPoint({ definition, extraPoint }: FakeSequence, position: number): number {
  const listed = definition.placement.points.find((at) => at > position) ?? Infinity;
  return extraPoint > position ? Math.min(extraPoint, listed) : listed;
}

/** Whether the block in this slot is one that the sequence never writes again. */
function isComplete({ choices }: FakeSequence, slot: number): boolean {
  return choices.some(({ slots, length }) => {
    const block = slots.indexOf(slot);
    return block >= 0 && (block + 1) * BLOCK_TOKENS <= length;
  });
}

/** What ends the choice on its newest token; null: it goes on. */
function endOf(definition: PlannedSequence, choice: FakeChoice, { id, inReasoning }: GeneratedToken): End | null {
  const { stop, eosToken, promptTokens, numGenerated, contextTokens } = definition;
  if (choice.completionTokens > stop.minTokens) {
    if (id === eosToken && !stop.ignoreEos) return { reason: 'stop', match: { t: 'eos', tokenId: id } };
    if (stop.tokenIds.includes(id)) return { reason: 'stop', match: { t: 'token', tokenId: id } };
    const answer = Buffer.from(choice.answer);
    const index = stop.sequences.findIndex((text) => !inReasoning && answer.subarray(-text.length).equals(text));
    if (index >= 0) return { reason: 'stop', match: { t: 'sequence', index } };
  }
  if (choice.completionTokens >= stop.maxTokens) return { reason: 'length', match: null };
  const isFull = promptTokens.length - numGenerated + choice.completionTokens >= contextTokens;
  return isFull ? { reason: 'context', match: null } : null;
}
