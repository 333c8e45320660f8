// Plans through bytes and back, read by a decoder that shares nothing with the encoder but the header's numbers.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PlanEncoder } from '../../../src/addon/plan-bytes.js';
import type { Plan, PlannedSequence } from '../../../src/engine/plan.js';
import { definition, greedy, planned, useCache } from '../../fakes/requests.js';

const NONE = 0xffffffff;

/** As native reads it: engine.h, offsets written out by hand. */
function decodePlan(bytes: Uint8Array): Plan {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const u32 = (at: number) => view.getUint32(at, true);
  const u64 = (at: number) => Number(view.getBigUint64(at, true));
  expect(u32(0)).toBe(0x4e4c504e);
  const numEntries = u32(16);
  const entries = Array.from({ length: numEntries }, (_, index) => {
    const at = 24 + index * 24;
    expect(u32(at + 8)).toBe(0);
    expect(u32(at + 20)).toBe(0);
    return { sequence: u64(at), maxChunk: u32(at + 12), point: u32(at + 16) };
  });
  const definitions: PlannedSequence[] = [];
  let at = 24 + numEntries * 24;
  for (let left = u32(20); left > 0; left--) {
    expect(at % 8).toBe(0);
    definitions.push(decodeDefinition(bytes, view, at));
    at += u32(at + 16);
  }
  expect(at).toBe(bytes.length);
  return { number: u64(8), stepTokens: u32(4), entries, definitions };
}

function decodeDefinition(bytes: Uint8Array, view: DataView, at: number): PlannedSequence {
  const u32 = (offset: number) => view.getUint32(at + offset, true);
  const f32 = (offset: number) => view.getFloat32(at + offset, true);
  const u64 = (offset: number) => Number(view.getBigUint64(at + offset, true));
  const orNull = (value: number) => (value === NONE ? null : value);
  const pad = (size: number) => Math.ceil(size / 8) * 8;
  let tail = at + 136;
  const promptTokens = Uint32Array.from({ length: u32(24) }, (_, index) => view.getUint32(tail + index * 4, true));
  tail += pad(promptTokens.length * 4);
  const logitBias = new Map<number, number>();
  for (let left = u32(88); left > 0; left--, tail += 8) {
    logitBias.set(view.getUint32(tail, true), view.getFloat32(tail + 4, true));
  }
  const tokenIds = Array.from({ length: u32(92) }, (_, index) => view.getUint32(tail + index * 4, true));
  tail += pad(tokenIds.length * 4);
  const lengths = Array.from({ length: u32(96) }, (_, index) => view.getUint32(tail + index * 4, true));
  tail += pad(lengths.length * 4);
  let text = tail;
  const sequences = lengths.map((length) => {
    text += length;
    return Uint8Array.from(bytes.subarray(text - length, text));
  });
  expect(text - tail).toBe(u32(100));
  tail += pad(u32(100));
  const points = Array.from({ length: u32(104) }, (_, index) => view.getUint32(tail + index * 4, true));
  tail += pad(points.length * 4);
  const slots = Array.from({ length: u32(108) }, (_, index) => view.getUint32(tail + index * 4, true));
  tail += pad(slots.length * 4);
  expect(tail - at).toBe(u32(16));
  const flags = u32(40);
  return {
    sequence: u64(0),
    numGenerated: u32(128),
    promptTokens,
    numChoices: u32(20),
    sampling: {
      temperature: f32(52),
      topK: u32(48),
      topP: f32(56),
      minP: f32(60),
      presencePenalty: f32(64),
      frequencyPenalty: f32(68),
      repetitionPenalty: f32(72),
      seed: u64(8),
      logitBias,
    },
    stop: { maxTokens: u32(28), minTokens: u32(32), sequences, tokenIds, ignoreEos: (flags & 2) !== 0 },
    reasoning: { startsInReasoning: (flags & 4) !== 0, endToken: orNull(u32(80)), maxTokens: orNull(u32(76)) },
    logprobs: (flags & 1) !== 0,
    topLogprobs: u32(44),
    contextTokens: u32(36),
    eosToken: orNull(u32(84)),
    cache: useCache, // stays on this side
    placement: {
      slots,
      points,
      startPoint: u64(112),
      startTokens: u32(120),
      frozenTokens: u32(124),
      keepsEnds: (flags & 8) !== 0,
    },
  };
}

const u32 = fc.integer({ min: 0, max: 0xfffffffe });
const id = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const float = fc.float({ noNaN: true, noDefaultInfinity: true });
const definitions: fc.Arbitrary<PlannedSequence> = fc.record({
  sequence: id,
  numGenerated: u32,
  promptTokens: fc.array(u32, { maxLength: 300 }).map((ids) => Uint32Array.from(ids)),
  numChoices: fc.integer({ min: 1, max: 8 }),
  sampling: fc.record({
    temperature: float,
    topK: u32,
    topP: float,
    minP: float,
    presencePenalty: float,
    frequencyPenalty: float,
    repetitionPenalty: float,
    seed: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    logitBias: fc.array(fc.tuple(u32, float), { maxLength: 9 }).map((pairs) => new Map(pairs)),
  }),
  stop: fc.record({
    maxTokens: u32,
    minTokens: u32,
    sequences: fc.array(fc.uint8Array({ minLength: 1, maxLength: 21 }), { maxLength: 5 }),
    tokenIds: fc.array(u32, { maxLength: 5 }),
    ignoreEos: fc.boolean(),
  }),
  reasoning: fc.record({
    startsInReasoning: fc.boolean(),
    endToken: fc.option(u32, { nil: null }),
    maxTokens: fc.option(u32, { nil: null }),
  }),
  logprobs: fc.boolean(),
  topLogprobs: fc.integer({ min: 0, max: 20 }),
  contextTokens: u32,
  eosToken: fc.option(u32, { nil: null }),
  cache: fc.constant(useCache),
  placement: fc.record({
    slots: fc.array(u32, { maxLength: 40 }),
    startPoint: fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }),
    startTokens: u32,
    frozenTokens: u32,
    points: fc.array(u32, { maxLength: 9 }),
    keepsEnds: fc.boolean(),
  }),
});
const plans: fc.Arbitrary<Plan> = fc.record({
  number: id,
  stepTokens: u32,
  entries: fc.array(fc.record({ sequence: id, maxChunk: u32, point: u32 }), { maxLength: 20 }),
  definitions: fc.array(definitions, { maxLength: 4 }),
});

test('native reads from the bytes what the plan says, whatever plan the buffer held before', () => {
  const encoder = new PlanEncoder();
  fc.assert(
    fc.property(plans, (plan) => {
      expect(decodePlan(encoder.encode(plan))).toEqual(plan);
    }),
    { numRuns: 300 },
  );
});

test('"no limit" stays no limit, and a request cannot ask for it by accident', () => {
  const encoder = new PlanEncoder();
  const wide = planned(
    definition(1, 3, { stop: { maxTokens: Number.MAX_SAFE_INTEGER }, sampling: { ...greedy, seed: 2 ** 53 - 1 } }),
  );
  const plan = decodePlan(encoder.encode({ number: 1, stepTokens: 1, entries: [], definitions: [wide] }));
  expect(plan.definitions[0]?.stop.maxTokens).toBe(NONE);
  expect(plan.definitions[0]?.reasoning.maxTokens).toBeNull();
  expect(plan.definitions[0]?.sampling.seed).toBe(2 ** 53 - 1);
});

test('a prompt of a million tokens crosses whole', () => {
  const encoder = new PlanEncoder();
  const long = planned(definition(1, 1_000_001), { slots: [7] });
  const bytes = encoder.encode({ number: 1, stepTokens: 1, entries: [], definitions: [long] });
  expect(bytes.length).toBe(24 + 136 + 1_000_002 * 4 + 8);
  expect(new DataView(bytes.buffer).getUint32(24 + 136 + 1_000_000 * 4, true)).toBe(1_000_001);
});
