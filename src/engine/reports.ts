// What native reports: tokens, progress, ends, failures, releases, in order. Their bytes are addon/report-bytes.ts.

import type { EngineEvent, GeneratedToken } from './types.js';

export type Ended = Omit<Extract<EngineEvent, { t: 'ended' }>, 't' | 'choice'>;

/** `code` of a failure: native/base/status.h says kNoMemory. */
export const NO_MEMORY = 3;

export type Report =
  | { readonly t: 'tokens'; readonly sequence: number; readonly choice: number; readonly tokens: GeneratedToken[] }
  | { readonly t: 'progress'; readonly sequence: number; readonly promptDone: number; readonly promptTotal: number }
  | { readonly t: 'ended'; readonly sequence: number; readonly choice: number; readonly end: Ended }
  /** Native took a point: `point` is the receiver's to give back. It comes before the end of its choice. */
  | {
      readonly t: 'point';
      readonly sequence: number;
      readonly choice: number;
      readonly position: number;
      readonly point: number;
      readonly bytes: number;
    }
  /** The whole sequence is over. */
  | { readonly t: 'failed'; readonly sequence: number; readonly code: number; readonly message: string }
  /** Native holds nothing of the sequence any more. */
  | { readonly t: 'released'; readonly sequence: number };
