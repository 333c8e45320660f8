// What the command line prints: numbers, tables, the progress line, and which exit code an error has.

import { CommanderError } from 'commander';
import { AddonError, nativeErrorCode } from '../addon/load.js';
import { ConfigurationError } from '../base/configuration-error.js';
import { Failure, type FailureReason } from '../base/failures.js';
import { VocabularyError } from '../text/vocabulary.js';

/** As in sysexits.h; docs and help name them. */
export const ExitCode = {
  OK: 0,
  UNEXPECTED: 1,
  USAGE: 64,
  /** An input file, mostly the model, is missing, unreadable or malformed. */
  INPUT: 66,
  UNAVAILABLE: 69,
  MEMORY: 71,
  IO: 74,
  CONFIGURATION: 78,
  INTERRUPTED: 130,
  TERMINATED: 143,
} as const;

export const SIGNAL_EXIT = { SIGINT: ExitCode.INTERRUPTED, SIGTERM: ExitCode.TERMINATED } as const;
export type Signal = keyof typeof SIGNAL_EXIT;

/** The command was called wrongly; the message names the flag. */
export class UsageError extends Error {}

/** An input file cannot be used. */
export class InputError extends Error {}

/** Something that this process must have for itself is taken: its port, its cache directory. */
export class UnavailableError extends Error {}

/** A directory cannot serve: no rights, no directory, somebody else's files. */
export class StorageError extends Error {}

/** Ctrl-C. A second one kills. */
export class Interrupted extends Failure {
  constructor() {
    super('CANCELLED_BY_CALLER', 'interrupted');
  }
}

const FAILURE_EXITS: Partial<Record<FailureReason, number>> = {
  ENGINE_FAILURE: ExitCode.UNEXPECTED,
  MEMORY_EXHAUSTED: ExitCode.MEMORY,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? ExitCode.OK : ExitCode.USAGE;
  if (error instanceof UsageError) return ExitCode.USAGE;
  if (error instanceof InputError || error instanceof VocabularyError) return ExitCode.INPUT;
  if (error instanceof AddonError || error instanceof UnavailableError) return ExitCode.UNAVAILABLE;
  if (error instanceof StorageError) return ExitCode.IO;
  if (error instanceof ConfigurationError) return error.source === 'flag' ? ExitCode.USAGE : ExitCode.CONFIGURATION;
  if (error instanceof Interrupted) return ExitCode.INTERRUPTED;
  if (error instanceof Failure) return FAILURE_EXITS[error.reason] ?? ExitCode.USAGE;
  switch (nativeErrorCode(error)) {
    case 'MODEL_FILE':
      return ExitCode.INPUT;
    case 'INVALID_ARGUMENT':
      // The environment is configuration, all else came from a flag.
      return (error as Error).message.startsWith('NANDU_') ? ExitCode.CONFIGURATION : ExitCode.USAGE;
    case 'NO_MEMORY':
      return ExitCode.MEMORY;
    case 'IO':
      return ExitCode.IO;
    default:
      return ExitCode.UNEXPECTED;
  }
}

/** 12,345 */
export const count = (value: number): string => value.toLocaleString('en-US', { maximumFractionDigits: 0 });

/** 1.5 GiB */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  let scaled = value;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${count(value)} B` : `${scaled.toFixed(scaled < 10 ? 2 : 1)} ${units[unit]}`;
}

/** Whole numbers whole, others with four significant digits. */
export function figure(value: number): string {
  if (Number.isInteger(value)) return String(value);
  return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : 'undefined';
}

/** Rows of cells, padded to columns; numbers are aligned by whoever makes the cells. */
export function table(rows: readonly (readonly string[])[]): string {
  const numColumns = Math.max(0, ...rows.map((row) => row.length));
  const widths = Array.from({ length: numColumns }, (_, column) =>
    rows.reduce((widest, row) => Math.max(widest, row[column]?.length ?? 0), 0),
  );
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** Indented, but a list of numbers stays on one line. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(/\[\n[-+\d.e,\s]*\]/g, (list) =>
    list.replace(/\n\s*/g, ' ').replace('[ ', '[').replace(' ]', ']'),
  );
}

/** Work shorter than this stays silent. */
const SILENT_MS = 1000;
/** Between two drawings on a terminal, and between two lines in a log. */
const REDRAW_MS = 100;
const LINE_MS = 5000;

interface ProgressOutput {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** One line on stderr about work that takes longer than a second: redrawn on a terminal, repeated in a log. */
export class Progress {
  readonly #begin: number;
  #shown = Number.NEGATIVE_INFINITY;
  #isDrawn = false;

  constructor(
    private readonly label: string,
    private readonly unit: string = '',
    private readonly output: ProgressOutput = process.stderr,
    private readonly now: () => number = () => performance.now(),
  ) {
    this.#begin = now();
  }

  readonly update = (done: number, total: number): void => {
    const now = this.now();
    const elapsed = now - this.#begin;
    if (elapsed < SILENT_MS || now - this.#shown < (this.output.isTTY ? REDRAW_MS : LINE_MS)) return;
    this.#shown = now;
    const share = total > 0 ? Math.min(done / total, 1) : 0;
    const amount = this.unit === '' ? '' : `  ${count(done)} of ${count(total)} ${this.unit}`;
    const left = share > 0 ? `  ${Math.ceil((elapsed / share - elapsed) / 1000)} s left` : '';
    const line = `${this.label}  ${Math.floor(share * 100)} %${amount}${left}`;
    this.#isDrawn = true;
    this.output.write(this.output.isTTY ? `\r\x1b[K${line}` : `${line}\n`);
  };

  /** Takes the line off a terminal. */
  end(): void {
    if (this.#isDrawn && this.output.isTTY) this.output.write('\r\x1b[K');
    this.#isDrawn = false;
  }
}
