// Reports out of their bytes (native/abi/engine.h).

import type { Ended, Report } from '../engine/reports.js';
import type { GeneratedToken, StopMatch } from '../engine/types.js';
import {
  EndedPayload,
  EndReason,
  FailedPayload,
  PointPayload,
  ProgressPayload,
  ReportHeader,
  ReportKind,
  TokenRecord,
  TokensPayload,
  TopRecord,
} from './layout.js';

const utf8 = new TextDecoder();

/** The reports in `bytes`, which holds whole ones. Throws on bytes that native never writes: a bug. */
export function decodeReports(bytes: Uint8Array): Report[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const reports: Report[] = [];
  let at = 0;
  while (at < bytes.length) {
    const size = bytes.length - at >= ReportHeader.size ? view.getUint32(at + ReportHeader.bytes, true) : 0;
    if (size < ReportHeader.size || size % 8 !== 0 || at + size > bytes.length) {
      throw new Error(`report at byte ${at} of ${bytes.length} claims ${size} bytes`);
    }
    reports.push(decode(bytes, view, at, at + size));
    at += size;
  }
  return reports;
}

function decode(bytes: Uint8Array, view: DataView, at: number, end: number): Report {
  const kind = view.getUint16(at + ReportHeader.kind, true);
  const choice = view.getUint16(at + ReportHeader.choice, true);
  const sequence = getUint64(view, at + ReportHeader.sequence);
  const payload = at + ReportHeader.size;
  switch (kind) {
    case ReportKind.tokens:
      return { t: 'tokens', sequence, choice, tokens: decodeTokens(view, payload, end) };
    case ReportKind.progress:
      return {
        t: 'progress',
        sequence,
        promptDone: view.getUint32(payload + ProgressPayload.promptDone, true),
        promptTotal: view.getUint32(payload + ProgressPayload.promptTotal, true),
      };
    case ReportKind.ended:
      return { t: 'ended', sequence, choice, end: decodeEnded(view, payload) };
    case ReportKind.failed: {
      const text = payload + FailedPayload.size;
      const length = view.getUint32(payload + FailedPayload.messageBytes, true);
      if (text + length > end) throw new Error(`failure report of sequence ${sequence} claims ${length} bytes of text`);
      const message = utf8.decode(bytes.subarray(text, text + length));
      return { t: 'failed', sequence, code: view.getInt32(payload + FailedPayload.code, true), message };
    }
    case ReportKind.point:
      return {
        t: 'point',
        sequence,
        choice,
        position: view.getUint32(payload + PointPayload.position, true),
        point: getUint64(view, payload + PointPayload.point),
        bytes: view.getUint32(payload + PointPayload.bytes, true),
      };
    case ReportKind.released:
      return { t: 'released', sequence };
    default:
      throw new Error(`report of unknown kind ${kind}`);
  }
}

function decodeTokens(view: DataView, payload: number, end: number): GeneratedToken[] {
  const tokens: GeneratedToken[] = [];
  let at = payload + TokensPayload.size;
  for (let left = view.getUint32(payload + TokensPayload.numTokens, true); left > 0; left--) {
    const numTop = view.getUint32(at + TokenRecord.numTop, true);
    const next = at + TokenRecord.size + numTop * TopRecord.size;
    if (next > end) throw new Error('token report holds less than it claims');
    const top: { id: number; logprob: number }[] = [];
    for (let entry = at + TokenRecord.size; entry < next; entry += TopRecord.size) {
      top.push({
        id: view.getUint32(entry + TopRecord.token, true),
        logprob: view.getFloat32(entry + TopRecord.logprob, true),
      });
    }
    tokens.push({
      id: view.getUint32(at + TokenRecord.token, true),
      logprob: view.getFloat32(at + TokenRecord.logprob, true),
      top,
      inReasoning: view.getUint32(at + TokenRecord.inReasoning, true) !== 0,
    });
    at = next;
  }
  return tokens;
}

function decodeEnded(view: DataView, payload: number): Ended {
  const code = view.getUint32(payload + EndedPayload.reason, true);
  const value = view.getUint32(payload + EndedPayload.value, true);
  const [reason, match] = endOf(code, value);
  return {
    reason,
    match,
    completionTokens: view.getUint32(payload + EndedPayload.completionTokens, true),
    reasoningTokens: view.getUint32(payload + EndedPayload.reasoningTokens, true),
  };
}

function endOf(code: number, value: number): [Ended['reason'], StopMatch | null] {
  switch (code) {
    case EndReason.eos:
      return ['stop', { t: 'eos', tokenId: value }];
    case EndReason.stopToken:
      return ['stop', { t: 'token', tokenId: value }];
    case EndReason.stopString:
      return ['stop', { t: 'sequence', index: value }];
    case EndReason.length:
      return ['length', null];
    case EndReason.context:
      return ['context', null];
    default:
      throw new Error(`sequence ended for the unknown reason ${code}`);
  }
}

/** Exact up to 2^53 - 1, and ids and counters stay below. */
export function getUint64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}
