// Flags that several commands share, and the reading of their values. A wrong value is a UsageError naming flag and
// range.

import { constants, isUtf8 } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { NUMERICS, type Numerics } from '../addon/load.js';
import { bytesOf } from '../base/size.js';
import { InputError } from './format.js';

export interface SharedOptions {
  readonly model?: string;
  readonly threads: number;
  readonly numerics: Numerics;
}

export const modelOption = (): Option =>
  new Option('-m, --model <file>', 'GGUF file, the first one if it is split (default: the embedded model)');

export function addComputeOptions(command: Command): Command {
  return command
    .addOption(modelOption())
    .addOption(
      new Option('--numerics <mode>', 'how KV rows are kept: reference (as DeepSeek-V4 serves) or f32 (for parity)')
        .choices(NUMERICS)
        .default('reference'),
    )
    .addOption(
      new Option('--threads <n>', 'worker threads; 0: the physical cores').argParser(integer(0, 1024)).default(0),
    );
}

/** Reads a whole number in [least, most]. */
export function integer(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^-?\d+$/.test(text.trim()) || value < least || value > most) {
      throw new InvalidArgumentError(`It must be a whole number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** Reads a number in [least, most]. */
export function real(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= least && value <= most)) {
      throw new InvalidArgumentError(`It must be a number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** Reads bytes: "64GiB", "1.5TB", "4096". */
export function size(text: string): number {
  const bytes = bytesOf(text);
  if (bytes === null) throw new InvalidArgumentError('It must be a size such as 512MiB or 1TB.');
  return bytes;
}

/** Reads bytes a second: as a size, with or without "/s", above 0. */
export function bandwidth(text: string): number {
  const value = size(text.replace(/\/s$/, ''));
  if (value === 0) throw new InvalidArgumentError('It must be above 0.');
  return value;
}

const DURATION_UNITS_MS: Readonly<Record<string, number>> = { s: 1e3, m: 6e4, h: 3.6e6, d: 8.64e7 };

/** Reads a time in milliseconds: "90s", "12h", "30d". */
export function duration(text: string): number {
  const match = /^(\d{1,9})([smhd])$/.exec(text);
  if (!match) throw new InvalidArgumentError('It must be a time such as 90s, 30m, 12h or 30d.');
  return Number(match[1]) * (DURATION_UNITS_MS[match[2] as string] as number);
}

/** Collects the values of a flag that may be given more than once. */
export function collect(value: string, previous: readonly string[]): string[] {
  if (value === '') throw new InvalidArgumentError('It must not be empty.');
  return [...previous, value];
}

export async function readText(path: string): Promise<string> {
  const refuse = (error: unknown): never => {
    throw new InputError(`${path}: ${reasonOf(error)}`);
  };
  checkLength((await stat(path).catch(refuse)).size, path); // before memory is taken for it; 0 for a pipe
  return textOf(await readFile(path).catch(refuse), path);
}

/** Throws for more bytes than a text can have. `name`: where they came from, for messages. */
export function checkLength(length: number, name: string): void {
  if (length > constants.MAX_STRING_LENGTH) throw new InputError(`${name}: is larger than a text may be, 512 MiB`);
}

/** Bytes that are no text are refused: replaced, they would be another text. `name`: where they came from, for messages. */
export function textOf(bytes: Buffer, name: string): string {
  checkLength(bytes.length, name);
  if (!isUtf8(bytes)) throw new InputError(`${name}: is not UTF-8 text`);
  return bytes.toString('utf8');
}

/** Decimal token ids separated by white space. `name`: the file, for messages. */
export function parseIds(text: string, name: string): Uint32Array {
  const words = text.split(/\s+/).filter((word) => word !== '');
  return Uint32Array.from(words, (word, index) => {
    const id = Number(word);
    if (!/^\d+$/.test(word) || id > 0xffffffff) {
      throw new InputError(`${name}: entry ${index + 1}, "${word.slice(0, 40)}", is not a token id`);
    }
    return id;
  });
}

export async function readIds(path: string): Promise<Uint32Array> {
  return parseIds(await readText(path), path);
}

function reasonOf(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT') return 'no such file';
  if (code === 'EACCES') return 'permission denied';
  if (code === 'EISDIR') return 'is a directory';
  return error instanceof Error ? error.message : String(error);
}
