// Checks the bytes of a request before protobufjs decodes them, which takes what protobuf forbids: bytes that are no UTF-8
// become other characters, and a message that is cut off inside a text passes for a shorter one. The request would then
// not be the one that was sent. And it makes an object of a hundred bytes of an empty message of two: thirty million of
// them fit into the bytes that a request may have, and not into memory.

import { isUtf8 } from 'node:buffer';
import { type FieldErrors, snakeCase } from './validate.js';

/** What proto-loader tells of a message, as far as it is used here. */
export interface MessageDescriptor {
  readonly field: readonly FieldDescriptor[];
  readonly nestedType: readonly (MessageDescriptor & { readonly name: string })[];
}

interface FieldDescriptor {
  /** As code sees it: camelCase. */
  readonly name: string;
  readonly number: number;
  /** Such as LABEL_REPEATED. */
  readonly label: string;
  /** Such as TYPE_STRING. */
  readonly type: string;
  /** Of messages and enums. */
  readonly typeName: string;
}

/** A message by the numbers of its fields. */
export type WireType = ReadonlyMap<number, WireField>;

interface WireField {
  /** As in the contract: snake_case. */
  readonly name: string;
  readonly wire: number;
  readonly isRepeated: boolean;
  readonly isText: boolean;
  /** The message is an entry, a key and a value. */
  readonly isMap: boolean;
  readonly message: WireType | null;
}

/** Messages, texts and entries of maps in one request. */
const ITEMS_MAX = 2 ** 17;
/** Numbers in lists; packed ones are counted by their bytes. */
const NUMBERS_MAX = 2 ** 23;

const VARINT = 0;
const FIXED64 = 1;
const LENGTH = 2;
const FIXED32 = 5;
const WIRE_OF: Readonly<Record<string, number>> = {
  ...{ TYPE_STRING: LENGTH, TYPE_BYTES: LENGTH, TYPE_MESSAGE: LENGTH },
  ...{ TYPE_DOUBLE: FIXED64, TYPE_FIXED64: FIXED64, TYPE_SFIXED64: FIXED64 },
  ...{ TYPE_FLOAT: FIXED32, TYPE_FIXED32: FIXED32, TYPE_SFIXED32: FIXED32 },
};

/** `find` gives the descriptor of a message by its name, as fields write it. Messages must not hold themselves. */
export function wireTypeOf(message: MessageDescriptor, find: (name: string) => MessageDescriptor): WireType {
  const fields = message.field.map(({ name, number, label, type, typeName }): [number, WireField] => {
    const isMessage = type === 'TYPE_MESSAGE';
    const inner = message.nestedType.find((nested) => nested.name === typeName);
    const field = {
      name: snakeCase(name),
      wire: WIRE_OF[type] ?? VARINT,
      isRepeated: label === 'LABEL_REPEATED',
      isText: type === 'TYPE_STRING',
      isMap: inner !== undefined, // nothing else is declared inside a message of this contract
      message: isMessage ? wireTypeOf(inner ?? find(typeName), find) : null,
    };
    return [number, field];
  });
  return new Map(fields);
}

/**
 * Tells `errors` the fields whose bytes are no text. Throws when `bytes` are no message of this type. False: it holds too much
 * to be decoded, and `errors` knows the field.
 */
export function checkWire(type: WireType, bytes: Uint8Array, errors: FieldErrors): boolean {
  try {
    new Walk(bytes, errors).message(type, bytes.length, '');
    return true;
  } catch (error) {
    if (!(error instanceof TooMuch)) throw error;
    errors.invalid(error.field, error.message);
    return false;
  }
}

class TooMuch extends Error {
  constructor(
    readonly field: string,
    what: string,
  ) {
    super(`holds what makes it more than ${what} in one request`);
  }
}

class Walk {
  #at = 0;
  #numItems = 0;
  #numNumbers = 0;
  /** Path of the map whose entry is read. */
  #map: string | null = null;

  constructor(
    private readonly bytes: Uint8Array,
    private readonly errors: FieldErrors,
  ) {}

  message(type: WireType, end: number, path: string): void {
    const counts = new Map<number, number>();
    while (this.#at < end) {
      const tag = this.#varint(end);
      const wire = tag % 8;
      const number = Math.floor(tag / 8);
      const start = this.#skip(wire, end);
      const field = type.get(number);
      if (number === 0) throw new Error('a field has the number 0');
      if (!field) continue; // of a newer contract
      const isPacked = wire === LENGTH && field.isRepeated && field.wire !== LENGTH;
      if (wire !== field.wire && !isPacked) throw new Error(`field ${path}${field.name} has wire type ${wire}`);
      // Numbers of a list that goes on beyond its end.
      if (isPacked && field.wire === VARINT && this.#at > start && (this.bytes[this.#at - 1] as number) >= 0x80) {
        throw new Error(`field ${path}${field.name} is cut off`);
      }
      if (!field.isText && !field.message) {
        if (field.isRepeated) this.#numNumbers += isPacked ? this.#at - start : 1;
        if (this.#numNumbers > NUMBERS_MAX) throw new TooMuch(`${path}${field.name}`, `${NUMBERS_MAX} numbers`);
        continue;
      }
      this.#numItems += 1;
      if (this.#numItems > ITEMS_MAX) throw new TooMuch(`${path}${field.name}`, `${ITEMS_MAX} messages and texts`);
      const index = counts.get(number) ?? 0;
      if (field.isRepeated) counts.set(number, index + 1);
      const name = `${path}${field.name}${field.isRepeated && !field.isMap ? `[${index}]` : ''}`;
      if (field.isText) this.#text(name, start);
      else this.#inner(field, name, start);
    }
  }

  #text(field: string, start: number): void {
    if (isUtf8(this.bytes.subarray(start, this.#at))) return;
    if (this.#map === null) this.errors.invalid(field, 'is not UTF-8');
    else this.errors.invalid(this.#map, 'holds a key or value that is not UTF-8');
  }

  #inner({ message, isMap }: WireField, path: string, start: number): void {
    const end = this.#at;
    this.#at = start;
    if (isMap) this.#map = path;
    this.message(message as WireType, end, `${path}.`);
    if (isMap) this.#map = null;
  }

  /** Goes behind a value; where its bytes begin. */
  #skip(wire: number, end: number): number {
    const length = wire === LENGTH ? this.#varint(end) : 0;
    const start = this.#at;
    if (wire === VARINT) this.#varint(end);
    else if (wire === FIXED64) this.#at += 8;
    else if (wire === FIXED32) this.#at += 4;
    else if (wire === LENGTH) this.#at += length;
    else throw new Error(`wire type ${wire} is not of proto3`);
    if (this.#at > end) throw new Error('the message is cut off');
    return start;
  }

  #varint(end: number): number {
    let value = 0;
    for (let scale = 1, count = 0; count < 10; scale *= 128, count++) {
      if (this.#at >= end) throw new Error('the message is cut off');
      const byte = this.bytes[this.#at++] as number;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
    throw new Error('a number has more than 10 bytes');
  }
}
