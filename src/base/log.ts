// The log: one JSON line an event on stdout (or lines for a person), never prompt or output text. Made once by the command
// that runs; everything else is handed a child of it.

import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import { within } from './within.js';

export type Log = Logger;

/** Of lines that wait for a reader that does not read. */
const BUFFERED_BYTES_MAX = 16 * 2 ** 20;
const FLUSH_PATIENCE_MS = 1000;

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export const LOG_FORMATS = ['json', 'pretty'] as const;
export type LogFormat = (typeof LOG_FORMATS)[number];

export interface LogSettings {
  readonly level: LogLevel;
  readonly format: LogFormat;
  /** On every line. */
  readonly fields: Readonly<Record<string, string>>;
}

/** `flush` writes what is still buffered, as far as it can be written in a second; call it before the process exits. */
export async function openLog(settings: LogSettings): Promise<{ log: Log; flush: () => Promise<void> }> {
  if (settings.format === 'pretty') {
    const { default: pretty } = await import('pino-pretty');
    return { log: createLog(settings, pretty({ sync: true })), flush: async () => {} };
  }
  // With a minimum of a byte lines are written as they come, and `flush` really waits.
  const stdout = pino.destination({ dest: 1, sync: false, minLength: 1, maxLength: BUFFERED_BYTES_MAX });
  // pino's own hook at exit would try for ever to write what a full disk does not take.
  const giveUpAtExit = () => {
    stdout.flushSync = () => {};
  };
  // Lines that cannot be written are lost, and nothing else is.
  stdout.on('error', giveUpAtExit);
  const flush = async () => {
    await within(FLUSH_PATIENCE_MS, new Promise<void>((resolve) => stdout.flush(() => resolve())), undefined);
    giveUpAtExit();
  };
  return { log: createLog(settings, stdout), flush };
}

export function createLog(settings: LogSettings, destination: DestinationStream): Log {
  const options = {
    level: settings.level,
    base: settings.fields,
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    redact: ['authorization', '*.authorization'],
  };
  return pino(options, destination);
}
