// A plan as bytes (native/abi/engine.h).

import type { Plan, PlannedSequence } from '../engine/plan.js';
import {
  PlanEntry as Entry,
  FLAG_IGNORE_EOS,
  FLAG_KEEP_ENDS,
  FLAG_LOGPROBS,
  FLAG_STARTS_IN_REASONING,
  PlanHeader as Header,
  NONE,
  PLAN_MAGIC,
  SequenceDefinition as Sequence,
} from './layout.js';

const pad8 = (bytes: number): number => (bytes + 7) & ~7;
const orNone = (value: number | null): number => Math.min(value ?? NONE, NONE);

/** Writes plans into one buffer that grows and is used again. Little-endian machines only, as native is. */
export class PlanEncoder {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);

  /** @returns a view that holds until the next call; native copies it. */
  encode(plan: Plan): Uint8Array {
    const sizes = plan.definitions.map(definitionBytes);
    const total = Header.size + plan.entries.length * Entry.size + sizes.reduce((sum, size) => sum + size, 0);
    this.#reserve(total);
    const view = this.#view;
    view.setUint32(Header.magic, PLAN_MAGIC, true);
    view.setUint32(Header.stepTokens, plan.stepTokens, true);
    this.#setUint64(Header.plan, plan.number);
    view.setUint32(Header.numEntries, plan.entries.length, true);
    view.setUint32(Header.numDefinitions, plan.definitions.length, true);
    let at: number = Header.size;
    for (const entry of plan.entries) {
      this.#setUint64(at + Entry.sequence, entry.sequence);
      view.setUint32(at + Entry.flags, 0, true);
      view.setUint32(at + Entry.maxChunk, entry.maxChunk, true);
      view.setUint32(at + Entry.point, entry.point, true);
      view.setUint32(at + Entry.reserved, 0, true);
      at += Entry.size;
    }
    plan.definitions.forEach((definition, index) => {
      const size = sizes[index] as number;
      this.#define(at, size, definition);
      at += size;
    });
    return this.#bytes.subarray(0, total);
  }

  #define(at: number, size: number, definition: PlannedSequence): void {
    const { sampling, stop, reasoning, placement } = definition;
    const view = this.#view;
    const u32 = (offset: number, value: number): void => view.setUint32(at + offset, value, true);
    const f32 = (offset: number, value: number): void => view.setFloat32(at + offset, value, true);
    const stopBytes = stop.sequences.reduce((sum, text) => sum + text.length, 0);
    this.#bytes.fill(0, at, at + size);
    this.#setUint64(at + Sequence.sequence, definition.sequence);
    this.#setUint64(at + Sequence.seed, sampling.seed);
    u32(Sequence.totalBytes, size);
    u32(Sequence.numChoices, definition.numChoices);
    u32(Sequence.numPromptTokens, definition.promptTokens.length);
    u32(Sequence.maxTokens, orNone(stop.maxTokens));
    u32(Sequence.minTokens, stop.minTokens);
    u32(Sequence.contextTokens, definition.contextTokens);
    u32(
      Sequence.flags,
      (definition.logprobs ? FLAG_LOGPROBS : 0) |
        (stop.ignoreEos ? FLAG_IGNORE_EOS : 0) |
        (reasoning.startsInReasoning ? FLAG_STARTS_IN_REASONING : 0) |
        (placement.keepsEnds ? FLAG_KEEP_ENDS : 0),
    );
    u32(Sequence.topLogprobs, definition.topLogprobs);
    u32(Sequence.topK, sampling.topK);
    f32(Sequence.temperature, sampling.temperature);
    f32(Sequence.topP, sampling.topP);
    f32(Sequence.minP, sampling.minP);
    f32(Sequence.presencePenalty, sampling.presencePenalty);
    f32(Sequence.frequencyPenalty, sampling.frequencyPenalty);
    f32(Sequence.repetitionPenalty, sampling.repetitionPenalty);
    u32(Sequence.maxReasoningTokens, orNone(reasoning.maxTokens));
    u32(Sequence.reasoningEndToken, orNone(reasoning.endToken));
    u32(Sequence.eosToken, orNone(definition.eosToken));
    u32(Sequence.numLogitBias, sampling.logitBias.size);
    u32(Sequence.numStopTokens, stop.tokenIds.length);
    u32(Sequence.numStopStrings, stop.sequences.length);
    u32(Sequence.stopBytes, stopBytes);
    u32(Sequence.numPoints, placement.points.length);
    u32(Sequence.numSlots, placement.slots.length);
    this.#setUint64(at + Sequence.startPoint, placement.startPoint);
    u32(Sequence.startTokens, placement.startTokens);
    u32(Sequence.frozenTokens, placement.frozenTokens);
    u32(Sequence.numGenerated, definition.numGenerated);

    let tail = at + Sequence.size;
    new Uint32Array(this.#bytes.buffer, tail, definition.promptTokens.length).set(definition.promptTokens);
    tail += pad8(definition.promptTokens.byteLength);
    for (const [token, bias] of sampling.logitBias) {
      view.setUint32(tail, token, true);
      view.setFloat32(tail + 4, bias, true);
      tail += 8;
    }
    for (const [index, token] of stop.tokenIds.entries()) view.setUint32(tail + index * 4, token, true);
    tail += pad8(stop.tokenIds.length * 4);
    for (const [index, bytes] of stop.sequences.entries()) view.setUint32(tail + index * 4, bytes.length, true);
    let text = tail + pad8(stop.sequences.length * 4);
    for (const bytes of stop.sequences) {
      this.#bytes.set(bytes, text);
      text += bytes.length;
    }
    tail += pad8(stop.sequences.length * 4) + pad8(stopBytes);
    new Uint32Array(this.#bytes.buffer, tail, placement.points.length).set(placement.points);
    tail += pad8(placement.points.length * 4);
    new Uint32Array(this.#bytes.buffer, tail, placement.slots.length).set(placement.slots);
  }

  /** Exact up to 2^53 - 1. */
  #setUint64(at: number, value: number): void {
    this.#view.setUint32(at, value % 2 ** 32, true);
    this.#view.setUint32(at + 4, Math.floor(value / 2 ** 32), true);
  }

  #reserve(bytes: number): void {
    if (bytes <= this.#bytes.length) return;
    this.#bytes = new Uint8Array(2 ** Math.ceil(Math.log2(bytes)));
    this.#view = new DataView(this.#bytes.buffer);
  }
}

function definitionBytes({ promptTokens, sampling, stop, placement }: PlannedSequence): number {
  const stopBytes = stop.sequences.reduce((sum, text) => sum + text.length, 0);
  return (
    Sequence.size +
    pad8(promptTokens.byteLength) +
    sampling.logitBias.size * 8 +
    pad8(stop.tokenIds.length * 4) +
    pad8(stop.sequences.length * 4) +
    pad8(stopBytes) +
    pad8(placement.points.length * 4) +
    pad8(placement.slots.length * 4)
  );
}
