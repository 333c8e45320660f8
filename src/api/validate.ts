// Collects everything that is wrong with one message and then refuses it once, naming all fields. Paths as in
// proto/nandu/v1/common.proto: snake_case, dotted, [i], map keys in brackets, a oneof arm by its own name.

import { Failure, type FieldViolation } from '../base/failures.js';
import type { Duration__Output } from './gen/google/protobuf/Duration.js';
import type { Timestamp__Output } from './gen/google/protobuf/Timestamp.js';

/** A prompt of wrong ids must not become a list of a million sentences. */
const VIOLATIONS_MAX = 200;
/** Longest map key shown in a path. */
const KEY_CHARS_MAX = 64;
/** The years 1 and 9999: what google.protobuf.Timestamp may hold. */
const TIMESTAMP_S_MIN = -62_135_596_800;
const TIMESTAMP_S_MAX = 253_402_300_799;

export class FieldErrors {
  readonly #violations: FieldViolation[] = [];
  /** What paths begin with now. */
  #prefix = '';
  #numInvalid = 0;
  #numUnsupported = 0;

  /** What `check` names lies in the message `field`. */
  within<Result>(field: string, check: () => Result): Result {
    const outer = this.#prefix;
    this.#prefix = `${outer}${field}.`;
    try {
      return check();
    } finally {
      this.#prefix = outer;
    }
  }

  /** The value is not allowed. */
  invalid(field: string, description: string): void {
    this.#numInvalid += 1;
    this.#add(field, description);
  }

  /** The field may not be set here yet. */
  unsupported(field: string, description: string): void {
    this.#numUnsupported += 1;
    this.#add(field, description);
  }

  /** Throws unless nothing was wrong. A wrong value outweighs a field that we cannot honour: it is wrong anywhere. */
  throwIfAny(): void {
    const total = this.#numInvalid + this.#numUnsupported;
    const first = this.#violations[0];
    if (!first) return;
    const rest = total === 1 ? '' : ` (and ${total - 1} more)`;
    const metadata: Record<string, string> = total > this.#violations.length ? { violations_total: String(total) } : {};
    throw new Failure(
      this.#numInvalid > 0 ? 'INVALID_FIELD' : 'UNSUPPORTED_FIELD',
      `${first.field}: ${first.description}${rest}`,
      { violations: this.#violations, metadata },
    );
  }

  /** An optional number within [low, high]; `unset` when it did not travel or is wrong. */
  number(field: string, value: number | undefined, unset: number, range: NumberRange): number {
    if (value === undefined) return unset;
    const { low = Number.NEGATIVE_INFINITY, high = Number.POSITIVE_INFINITY, isLowOpen = false } = range;
    if (Number.isFinite(value) && value <= high && (isLowOpen ? value > low : value >= low)) return value;
    this.invalid(field, rangeText(range));
    return unset;
  }

  /** An enum by the table of what each name means; null: the name exists and is not allowed here. */
  oneOf<T>(field: string, value: string | number | undefined, unset: T, meanings: Readonly<Record<string, T>>): T {
    if (value === undefined) return unset;
    // Numbers are what the loader makes of enum values that it does not know.
    if (typeof value === 'string' && Object.hasOwn(meanings, value)) return meanings[value] as T;
    this.invalid(field, `${JSON.stringify(value)} is not a value of this enum that this server knows`);
    return unset;
  }

  /** Milliseconds of an optional duration; `unset` when it did not travel or is wrong. */
  durationMs(field: string, value: Duration__Output | undefined, unset: number): number {
    if (value === undefined) return unset;
    const { seconds = 0, nanos = 0 } = value;
    // Values travel as 64 bits and arrive as numbers: whole ones.
    const wholeSeconds = Number(seconds);
    if (wholeSeconds < 0 || nanos < 0) this.invalid(field, 'must not be negative');
    else if (nanos > 999_999_999 || wholeSeconds > 315_576_000_000) this.invalid(field, 'is not a valid duration');
    else return wholeSeconds * 1000 + nanos / 1e6;
    return unset;
  }

  /** Milliseconds since 1970 of an optional point in time; null when it did not travel or is wrong. */
  timestampMs(field: string, value: Timestamp__Output | undefined): number | null {
    if (value === undefined) return null;
    const { seconds = 0, nanos = 0 } = value;
    const wholeSeconds = Number(seconds);
    if (nanos >= 0 && nanos <= 999_999_999 && wholeSeconds >= TIMESTAMP_S_MIN && wholeSeconds <= TIMESTAMP_S_MAX) {
      return wholeSeconds * 1000 + nanos / 1e6;
    }
    this.invalid(field, 'is not a valid timestamp');
    return null;
  }

  #add(field: string, description: string): void {
    if (this.#violations.length < VIOLATIONS_MAX)
      this.#violations.push({ field: `${this.#prefix}${field}`, description });
  }
}

export interface NumberRange {
  readonly low?: number;
  /** `low` itself is out. */
  readonly isLowOpen?: boolean;
  readonly high?: number;
}

function rangeText({ low, high, isLowOpen }: NumberRange): string {
  const parts: string[] = [];
  if (low !== undefined) parts.push(isLowOpen ? `above ${low}` : `at least ${low}`);
  if (high !== undefined) parts.push(`at most ${high}`);
  return `must be a finite number${parts.length > 0 ? ` ${parts.join(' and ')}` : ''}`;
}

/** `labels[key]`, the key cut to a length that fits an error. */
export function mapPath(field: string, key: string): string {
  return `${field}[${key.length <= KEY_CHARS_MAX ? key : `${key.slice(0, KEY_CHARS_MAX)}…`}]`;
}

/** Name in the proto of a field name in code. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
