// The daily write budget: never passed, spread over the day, whole chains. Time is a number that the test counts up.

import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { WriteBudget } from '../../../src/kv/write-budget.js';

const DAY = 24 * 3600 * 1000;
const key = (n: number) => createHash('sha256').update(String(n)).digest('binary');

test('no budget: everything is admitted and counted', () => {
  const budget = new WriteBudget(0, 100);
  for (let n = 0; n < 50; n++) expect(budget.admits(key(n), 1e12, n * 1000)).toBe(true);
  expect(budget.spentBytes(0)).toBe(50e12);
});

test('the last byte of the budget, less what is reserved, and none beyond; a new day brings a new one', () => {
  const budget = new WriteBudget(1000, 100);
  expect(budget.admits(key(1), 901, 0)).toBe(false);
  expect(budget.admits(key(1), 900, 0)).toBe(true);
  expect(budget.admits(key(2), 1, 1)).toBe(false);
  budget.refund(900);
  expect(budget.admits(key(2), 600, 2)).toBe(true);
  budget.spend(400, 3);
  expect(budget.spentBytes(4)).toBe(1000);
  expect(budget.admits(key(3), 1, DAY - 1)).toBe(false);
  expect(budget.spentBytes(DAY)).toBe(0);
  expect(budget.admits(key(3), 1, DAY)).toBe(true);
});

test('a clock set back gives nothing twice', () => {
  const budget = new WriteBudget(1000, 0);
  expect(budget.admits(key(1), 1000, 5 * DAY)).toBe(true);
  expect(budget.spentBytes(3 * DAY)).toBe(1000);
  expect(budget.admits(key(1), 1, 3 * DAY)).toBe(false);
  expect(budget.spentBytes(4 * DAY)).toBe(0);
});

test('three times too much: a third of the chains, all day long, and the same ones each time', () => {
  const perMinute = 20;
  const perDay = (1440 * perMinute) / 3;
  const budget = new WriteBudget(perDay, 0);
  const admittedByHour = Array.from({ length: 48 }, () => 0);
  let mostSpent = 0;
  for (let minute = 0; minute < 2 * 1440; minute++) {
    for (let n = 0; n < perMinute; n++) {
      const nowMs = minute * 60_000 + n * 1000;
      const chain = key(minute * perMinute + n);
      const admitted = budget.admits(chain, 1, nowMs);
      if (admitted) admittedByHour[Math.floor(minute / 60)] = (admittedByHour[Math.floor(minute / 60)] as number) + 1;
      mostSpent = Math.max(mostSpent, budget.spentBytes(nowMs));
      // Asked again within the minute, a chain gets the same answer.
      if (n === 0 && minute % 60 === 30) expect(budget.admits(chain, 0, nowMs)).toBe(admitted);
    }
  }
  expect(mostSpent).toBeLessThanOrEqual(perDay);
  // The first day begins with no idea of what comes; on the second every hour gets its part.
  for (const admitted of admittedByHour.slice(24)) {
    expect(admitted).toBeGreaterThan((perDay / 24) * 0.8);
    expect(admitted).toBeLessThan((perDay / 24) * 1.2);
  }
});

test('what reclaim writes lowers what is admitted', () => {
  const admitted = (reclaimed: number) => {
    const budget = new WriteBudget(1440 * 20, 0);
    let count = 0;
    for (let minute = 0; minute < 720; minute++) {
      budget.spend(reclaimed, minute * 60_000);
      for (let n = 0; n < 40; n++) if (budget.admits(key(minute * 40 + n), 1, minute * 60_000 + n)) count++;
    }
    return count;
  };
  expect(admitted(10)).toBeLessThan(admitted(0) * 0.7);
});

test('whatever is offered, refunded and spent elsewhere: admission never passes the budget', () => {
  const step = fc.record({ bytes: fc.nat(300), afterMs: fc.nat(3 * 3600 * 1000), isBack: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), fc.nat(50), (steps, reserve) => {
      const budget = new WriteBudget(1000, reserve);
      let nowMs = 1e12;
      steps.forEach(({ bytes, afterMs, isBack }, n) => {
        nowMs += isBack ? -Math.floor(afterMs / 10) : afterMs;
        budget.admits(key(n), bytes, nowMs);
        expect(budget.spentBytes(nowMs)).toBeLessThanOrEqual(1000 - reserve);
        expect(budget.probability).toBeGreaterThanOrEqual(0);
        expect(budget.probability).toBeLessThanOrEqual(1);
      });
    }),
  );
});
