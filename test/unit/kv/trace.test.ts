// The trace in short: a tenth of the requests, two capacities. The whole: node bench/kv/trace.mjs.

import { describe, expect, test } from 'vitest';
import { factsOf, traceOf } from './trace.js';
import { compare, KINDS } from './trace-runs.js';

test('the trace has the shape it was fitted to, as near as its seeds differ', () => {
  for (const seed of [1, 2, 3]) {
    const facts = factsOf(traceOf(seed));
    const between = (value: number, low: number, high: number) => {
      expect(value).toBeGreaterThanOrEqual(low);
      expect(value).toBeLessThanOrEqual(high);
    };
    expect(facts.requests).toBe(12_031);
    between(facts.distinctShare, 0.62, 0.65);
    between(facts.touchedOnceShare, 0.69, 0.72);
    between(facts.infiniteHitRate, 0.36, 0.39);
    between(facts.promptTokensP50, 6_800, 7_150);
    between(facts.promptTokensP90, 24_500, 27_500);
  }
});

describe('hit rate within 0.01 of the reference', () => {
  const trace = traceOf(2, 0.1);
  for (const kind of KINDS)
    for (const capacity of [0.1, 0.25])
      test(`${kind} at ${capacity * 100} %`, () => {
        const { production, reference, difference } = compare(trace, kind, capacity);
        expect(reference.hitRate).toBeGreaterThan(0.15);
        expect(Math.abs(difference)).toBeLessThanOrEqual(0.01);
        expect(production.rewrittenBytes).toBeGreaterThan(0);
      });
});
