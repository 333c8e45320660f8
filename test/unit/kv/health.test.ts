// The breaker's states and arrows, and what people are told in each.

import { describe, expect, test } from 'vitest';
import { DiskHealth } from '../../../src/kv/health.js';

function opened(atMs = 0): DiskHealth {
  const health = new DiskHealth();
  for (let n = 0; n < 3; n++) health.failed('read-error', 'EIO', atMs);
  return health;
}

describe('the breaker', () => {
  test('opens at the third failure within ten seconds, not at three in more', () => {
    const health = new DiskHealth();
    for (const atMs of [0, 5_000, 10_000, 15_000]) {
      health.failed('too-slow', '', atMs);
      expect(health.mayUse(atMs)).toBe(true);
    }
    health.failed('too-slow', '', 19_000);
    expect([health.mayUse(19_000), health.isOpen, health.timesOpened]).toEqual([false, true, 1]);
  });

  test('lets one probe through after 5 s and closes when it succeeds', () => {
    const health = opened();
    expect(health.mayUse(4_999)).toBe(false);
    health.succeeded(); // a read from before
    expect(health.mayUse(4_999)).toBe(false);
    expect([health.mayUse(5_000), health.mayUse(5_001)]).toEqual([true, false]);
    health.succeeded();
    expect([health.mayUse(5_002), health.mayUse(5_003), health.isOpen]).toEqual([true, true, false]);
    // And the count begins anew.
    health.failed('read-error', '', 5_004);
    health.failed('read-error', '', 5_004);
    expect(health.mayUse(5_005)).toBe(true);
  });

  test('waits twice as long after each failed probe, 300 s at most, and 5 s again after a success', () => {
    const health = opened();
    let nowMs = 0;
    for (const waitMs of [5, 10, 20, 40, 80, 160, 300, 300].map((seconds) => seconds * 1000)) {
      expect(health.mayUse(nowMs + waitMs - 1)).toBe(false);
      nowMs += waitMs;
      expect(health.mayUse(nowMs)).toBe(true);
      health.failed('read-error', '', nowMs);
      health.failed('read-error', '', nowMs); // a straggler changes nothing
    }
    expect(health.mayUse(nowMs + 300_000)).toBe(true);
    health.succeeded();
    for (let n = 0; n < 3; n++) health.failed('read-error', '', nowMs);
    expect([health.mayUse(nowMs + 4_999), health.mayUse(nowMs + 5_000)]).toEqual([false, true]);
  });

  test('does not wait for ever for a probe that never ends', () => {
    const health = opened();
    expect([health.mayUse(5_000), health.mayUse(9_999), health.mayUse(10_000)]).toEqual([true, false, true]);
  });
});

describe('the sentence', () => {
  test('is empty while all is well', () => {
    const health = new DiskHealth();
    health.failed('read-error', 'EIO', 0);
    health.writes('ok', '');
    expect([health.problem(0), health.canWrite]).toEqual(['', true]);
  });

  test('says why the disk is left alone, and for how long', () => {
    const health = opened();
    expect(health.problem(1_500)).toBe('Prompt cache: the disk is not used for another 4 s: a read failed (EIO).');
    expect(health.problem(9_000)).toContain('until a request has tried it again');
    health.mayUse(9_000);
    expect(health.problem(9_000)).toBe('Prompt cache: the disk is being tried again after a read failed (EIO).');
  });

  test('says what writes met, until they are well again', () => {
    const health = new DiskHealth();
    for (const [status, words] of [
      ['no-space', 'is full'],
      ['read-only', 'cannot be written'],
      ['io-error', 'fails'],
    ] as const) {
      health.writes(status, 'said so');
      expect(health.problem(0)).toContain(words);
      expect(health.problem(0)).toMatch(/^Prompt cache: .*\(said so\)\.$/);
      expect(health.canWrite).toBe(false);
    }
    health.writes('ok', 'fine');
    expect([health.problem(0), health.canWrite]).toEqual(['', true]);
  });
});

test('one condition is told once, however its sentence changes', () => {
  const health = opened();
  const first = health.condition;
  expect(first).not.toBe('');
  expect(health.problem(1000)).not.toBe(health.problem(3000));
  health.mayUse(5_000);
  health.failed('too-slow', '', 5_100);
  expect(health.condition).toBe(first);
  health.writes('no-space', 'one detail');
  const second = health.condition;
  health.writes('no-space', 'another');
  expect([second === first, health.condition]).toEqual([false, second]);
  health.mayUse(60_000);
  health.succeeded();
  health.writes('ok', '');
  expect(health.condition).toBe('');
  health.directoryIs(false);
  expect([health.canWrite, health.allows(70_000)]).toEqual([false, true]);
  expect(health.problem(70_000)).toMatch(/removed or replaced/);
  health.directoryIs(true);
  expect([health.canWrite, health.problem(70_000)]).toEqual([true, '']);
});
