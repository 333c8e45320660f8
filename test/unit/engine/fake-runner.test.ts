// The fake runner notices what it is there to notice: every rule of engine.h about slots and points, broken once.

import { expect, test } from 'vitest';
import type { Plan, PlannedSequence } from '../../../src/engine/plan.js';
import type { Placement } from '../../../src/kv/cache.js';
import { FakeRunner } from '../../fakes/fake-runner.js';
import { definition, planned } from '../../fakes/requests.js';

/** A prompt of 300 tokens and an answer of 8: three blocks. */
const one = (id: number, placement: Partial<Placement>, changes = {}): PlannedSequence =>
  planned(definition(id, 300, { stop: { maxTokens: 8 }, ...changes }), placement);

function make() {
  const runner = new FakeRunner({ stepMs: null, kvBlocks: 16 });
  let number = 0;
  let running: number[] = [];
  const submit = (definitions: PlannedSequence[], gone: number[] = [], point = 0): Plan => {
    running = [...running.filter((id) => !gone.includes(id)), ...definitions.map(({ sequence }) => sequence)];
    const entries = running.map((sequence) => ({ sequence, maxChunk: 0, point }));
    const plan = { number: ++number, stepTokens: 512, entries, definitions };
    runner.submit(plan);
    return plan;
  };
  const finish = () => {
    while (runner.step());
    return runner.drain();
  };
  return { runner, submit, finish };
}
const pointsOf = (reports: ReturnType<FakeRunner['drain']>) =>
  reports.flatMap((report) => (report.t === 'point' ? [[report.position, report.point]] : []));

test('points: where they are wished, where others wait, and at the ends', () => {
  const { submit, finish, runner } = make();
  submit([one(1, { slots: [0, 1, 2], points: [128], keepsEnds: true })], [], 256);
  const reports = finish();
  expect(pointsOf(reports)).toEqual([
    [128, 1],
    [256, 2],
    [307, 3], // 300 + 8 - 1: the last token's row is not there
  ]);
  expect(reports.at(-1)).toMatchObject({ t: 'ended' });
  runner.releasePoint(2);
  expect(() => runner.releasePoint(2)).toThrow('point 2 was never taken, or is released');
});

test('a sequence that leaves early leaves a point at the last boundary that it passed', () => {
  const { runner, submit } = make();
  submit([one(1, { slots: [0, 1, 2], keepsEnds: true }, { stop: { maxTokens: 80 } })]);
  runner.step();
  submit([], [1]);
  expect(pointsOf(runner.drain())).toEqual([[256, 1]]);
});

test('a start that continues another prompt’s rows answers as if it had computed them', () => {
  const alone = make();
  alone.submit([one(1, { slots: [0, 1, 2] })]);
  const right = alone.finish().filter(({ t }) => t === 'tokens');
  const { submit, finish } = make();
  submit([one(1, { slots: [0, 1, 2], points: [256] })]);
  finish();
  submit([one(1, { slots: [0, 1, 5], startPoint: 1, startTokens: 256 }, {})].map((d) => ({ ...d, sequence: 2 })));
  const again = finish().flatMap((report) => (report.t === 'tokens' ? [{ ...report, sequence: 1 }] : []));
  expect(again).toEqual(right);
});

test.each<[string, Partial<Placement>, object]>([
  ['slot 2 of 2 is used by 1', { slots: [0, 1, 2], startPoint: 1, startTokens: 256 }, {}], // 1 writes it
  ['slot 1 of 2 is used by 1', { slots: [0, 1, 5], startPoint: 2, startTokens: 128 }, {}], // 2 would write it
  ['a sequence names a slot once', { slots: [5, 5, 6] }, {}],
  ['2 slots of 2', { slots: [5, 6] }, {}],
  ['slots of 2 exist', { slots: [5, 6, 16] }, {}],
  ['slot 8 holds another row at 128', { slots: [0, 8, 9], startPoint: 1, startTokens: 256 }, {}],
  [
    'slot 0 holds another row',
    { slots: [0, 1, 9], startPoint: 1, startTokens: 256 },
    { promptTokens: new Uint32Array(300) },
  ],
  ['point 1 is one of 2', { slots: [0, 9, 10], startPoint: 1, startTokens: 128 }, {}],
  ['point 7 was never taken', { slots: [0, 1, 9], startPoint: 7, startTokens: 256 }, {}],
  ['point 3 was never taken, or is released', { slots: [0, 1, 9], startPoint: 3, startTokens: 256 }, {}],
  ['2 starts at a point or at 0', { slots: [0, 1, 9], startTokens: 256 }, {}],
  ['2 is replayed from a boundary', { slots: [0, 1, 9], startTokens: 100, frozenTokens: 256 }, {}],
  ['2 starts at a point or is replayed', { slots: [0, 1, 9], startPoint: 1, startTokens: 256, frozenTokens: 256 }, {}],
  ['points of 2 ascend', { slots: [5, 6, 7], points: [256, 128] }, {}],
])('throws: %s', (message, placement, changes) => {
  const { runner, submit } = make();
  submit([one(1, { slots: [0, 1, 2], points: [128, 256] }, { stop: { maxTokens: 80 } })]);
  for (let step = 0; step < 4; step++) runner.step();
  const taken = pointsOf(runner.drain());
  expect(taken).toEqual([
    [128, 1],
    [256, 2],
  ]);
  // Numbers as the cases have them: 1 stands for the point at 256, 2 for the one at 128.
  const swapped = { ...placement, startPoint: [0, 2, 1][placement.startPoint ?? 0] ?? placement.startPoint ?? 0 };
  if (placement.startPoint === 3) runner.releasePoint(runner.memory.addPoint(runner.memory.point(2)));
  expect(() => submit([one(2, swapped, changes)])).toThrow(message.replace('point 1 is', 'point 2 is'));
});
