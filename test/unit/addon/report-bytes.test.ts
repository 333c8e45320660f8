// Reports as native writes them, made here by hand from engine.h, and bytes that it never writes.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeReports } from '../../../src/addon/report-bytes.js';
import type { Report } from '../../../src/engine/reports.js';

/** One report in the bytes of engine.h. */
function encode(report: Report): Uint8Array {
  const bytes = new Uint8Array(1 << 14);
  const view = new DataView(bytes.buffer);
  let at = 16;
  const u32 = (...values: number[]) => {
    for (const value of values) {
      view.setUint32(at, value, true);
      at += 4;
    }
  };
  const float = (value: number) => {
    view.setFloat32(at, value, true);
    at += 4;
  };
  const kind = { tokens: 1, progress: 2, ended: 3, failed: 4, released: 5, point: 6 }[report.t];
  switch (report.t) {
    case 'tokens':
      u32(report.tokens.length, 0);
      for (const token of report.tokens) {
        u32(token.id);
        float(token.logprob);
        u32(token.top.length, token.inReasoning ? 1 : 0);
        for (const { id, logprob } of token.top) {
          u32(id);
          float(logprob);
        }
      }
      break;
    case 'progress':
      u32(report.promptDone, report.promptTotal);
      break;
    case 'point':
      view.setBigUint64(at, BigInt(report.point), true);
      at += 8;
      u32(report.position, report.bytes);
      break;
    case 'ended': {
      const { reason, match, completionTokens, reasoningTokens } = report.end;
      const code = match ? { eos: 1, token: 2, sequence: 3 }[match.t] : reason === 'length' ? 4 : 5;
      u32(code, match ? (match.t === 'sequence' ? match.index : match.tokenId) : 0, completionTokens, reasoningTokens);
      break;
    }
    case 'failed': {
      const text = new TextEncoder().encode(report.message);
      view.setInt32(at, report.code, true);
      at += 4;
      u32(text.length);
      bytes.set(text, at);
      at += Math.ceil(text.length / 8) * 8;
      break;
    }
  }
  view.setUint16(0, kind, true);
  view.setUint16(2, 'choice' in report ? report.choice : 0, true);
  view.setUint32(4, at, true);
  view.setBigUint64(8, BigInt(report.sequence), true);
  return bytes.slice(0, at);
}

const u32 = fc.nat({ max: 0xffffffff });
const float = fc.float({ noNaN: true });
const sequence = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const choice = fc.nat({ max: 7 });
const top = fc.array(fc.record({ id: u32, logprob: float }), { maxLength: 20 });
const end = fc
  .oneof(
    u32.map((tokenId) => ({ reason: 'stop' as const, match: { t: 'eos' as const, tokenId } })),
    u32.map((tokenId) => ({ reason: 'stop' as const, match: { t: 'token' as const, tokenId } })),
    u32.map((index) => ({ reason: 'stop' as const, match: { t: 'sequence' as const, index } })),
    fc.constantFrom({ reason: 'length' as const, match: null }, { reason: 'context' as const, match: null }),
  )
  .chain((why) =>
    fc.record({
      reason: fc.constant(why.reason),
      match: fc.constant(why.match),
      completionTokens: u32,
      reasoningTokens: u32,
    }),
  );
const reports: fc.Arbitrary<Report> = fc.oneof(
  fc.record({
    t: fc.constant('tokens' as const),
    sequence,
    choice,
    tokens: fc.array(fc.record({ id: u32, logprob: float, top, inReasoning: fc.boolean() }), { maxLength: 8 }),
  }),
  fc.record({ t: fc.constant('point' as const), sequence, choice, position: u32, point: sequence, bytes: u32 }),
  fc.record({ t: fc.constant('progress' as const), sequence, promptDone: u32, promptTotal: u32 }),
  fc.record({ t: fc.constant('ended' as const), sequence, choice, end }),
  fc.record({
    t: fc.constant('failed' as const),
    sequence,
    code: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
    message: fc.string({ unit: 'grapheme', maxLength: 200 }),
  }),
  fc.record({ t: fc.constant('released' as const), sequence }),
);

test('any run of reports comes out as it went in, at any offset of a larger buffer', () => {
  fc.assert(
    fc.property(fc.array(reports, { maxLength: 12 }), fc.nat({ max: 3 }), (list, words) => {
      const bytes = Buffer.concat([Buffer.alloc(words * 8), ...list.map(encode)]);
      expect(decodeReports(bytes.subarray(words * 8))).toEqual(list);
    }),
    { numRuns: 500 },
  );
});

test('bytes that native never writes are a bug, named', () => {
  const released = encode({ t: 'released', sequence: 1 });
  const with32 = (at: number, value: number, base = released) => {
    const bytes = base.slice();
    new DataView(bytes.buffer).setUint32(at, value, true);
    return bytes;
  };
  expect(() => decodeReports(with32(4, 0))).toThrow('claims 0 bytes');
  expect(() => decodeReports(with32(4, 24))).toThrow('report at byte 0 of 16 claims 24 bytes');
  expect(() => decodeReports(with32(4, 17))).toThrow('claims 17 bytes');
  expect(() => decodeReports(released.subarray(0, 8))).toThrow('claims 0 bytes');
  expect(() => decodeReports(with32(0, 9))).toThrow('unknown kind 9');
  const tokens = encode({
    t: 'tokens',
    sequence: 1,
    choice: 0,
    tokens: [{ id: 1, logprob: 0, top: [], inReasoning: false }],
  });
  expect(() => decodeReports(with32(32, 3, tokens))).toThrow('token report holds less than it claims');
  const failed = encode({ t: 'failed', sequence: 1, code: 5, message: 'x' });
  expect(() => decodeReports(with32(20, 900, failed))).toThrow('claims 900 bytes of text');
});
