// Bytes of requests that no library of a client makes, told from those of good ones before they are decoded.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { refuseBadTexts, serviceDefinition } from '../../../src/api/proto.js';
import type { Failure } from '../../../src/base/failures.js';

const { Generate } = serviceDefinition('nandu.v1.GenerationService');
const decode = (...parts: (Uint8Array | number[])[]): object =>
  Generate?.requestDeserialize(Buffer.concat(parts.map((part) => Buffer.from(part)))) as object;
const encode = (request: object): Buffer => Generate?.requestSerialize(request) as Buffer;
/** A field with a length. */
const field = (number: number, bytes: Uint8Array | number[]): Buffer =>
  Buffer.from([number * 8 + 2, bytes.length, ...bytes]);
const refusalOf = (request: object): Failure | null => {
  try {
    refuseBadTexts(request);
    return null;
  } catch (error) {
    return error as Failure;
  }
};
const fieldsOf = (request: object): string[] =>
  refusalOf(request)?.facts.violations?.map(({ field: name }) => name) ?? [];

const request = {
  text: 'caf\u00e9 \ufffd \u{1f600}',
  sampling: { seed: 2 ** 52, logitBias: { 7: 1.5, 9: -2 }, temperature: 0.5 },
  stop: { sequences: ['\n', '\ufffd'], tokenIds: [1, 300, 70000], ignoreEos: true },
  stream: { progressInterval: { seconds: 3, nanos: 5 } },
  labels: { 'k\u00e9y': 'v' },
  priority: 'PRIORITY_INTERACTIVE',
};

test('good requests decode to what they say, also with fields of a newer contract', () => {
  const bytes = encode(request);
  expect(encode(decode(bytes))).toEqual(bytes);
  const later = [
    [0xc8, 0x3e, 0xff, 0x01],
    [0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8],
    [0xc5, 0x3e, 1, 2, 3, 4],
    [0xc2, 0x3e, 1, 0xff],
  ];
  expect(encode(decode(bytes, ...later))).toEqual(bytes);
  expect(fieldsOf(decode(bytes, ...later))).toEqual([]);
  expect(decode()).toEqual({});
});

test('texts that are not UTF-8 are told by their fields', () => {
  const bad = [0x61, 0xff, 0x62];
  expect(fieldsOf(decode(field(3, bad)))).toEqual(['text']);
  expect(fieldsOf(decode(field(1, [0xed, 0xa0, 0x80]), field(12, [0xc0, 0x80])))).toEqual(['model', 'request_id']);
  const message = (content: number[]) => field(1, field(2, content));
  expect(fieldsOf(decode(field(2, [...message([0x61]), ...message(bad)])))).toEqual(['chat.messages[1].content']);
  expect(fieldsOf(decode(field(7, [...field(3, [0x61]), ...field(3, bad)])))).toEqual(['stop.sequences[1]']);
  expect(fieldsOf(decode(field(15, [...field(1, [0x61]), ...field(2, bad)])))).toEqual(['labels']);
});

test('what would decode to a thousand times its bytes is refused by its field, and not decoded', () => {
  const long = (number: number, bytes: Uint8Array): Buffer => {
    const length = [bytes.length, bytes.length >> 7, bytes.length >> 14].map((part) => (part & 0x7f) | 0x80);
    return Buffer.concat([Buffer.from([number * 8 + 2, ...length, bytes.length >> 21]), bytes]);
  };
  const chat = (messages: number) => long(2, Buffer.alloc(2 * messages, Buffer.from([0x0a, 0])));
  const most = decode(chat(2 ** 17 - 1)) as { chat: { messages: object[] } };
  expect(most.chat.messages.length).toBe(2 ** 17 - 1);
  expect(fieldsOf(most)).toEqual([]);
  const more = decode(chat(2 ** 17));
  expect(more).toEqual({});
  expect(fieldsOf(more)).toEqual(['chat.messages']);
  const ids = (count: number): object => decode(long(4, long(1, Buffer.alloc(count, 5))));
  expect(fieldsOf(ids(2 ** 20))).toEqual([]);
  expect(fieldsOf(ids(2 ** 23 + 1))).toEqual(['token_ids.ids']);
});

test('a hundred thousand bad texts are counted, not listed', () => {
  const one = field(3, [0xff]);
  const many = Buffer.alloc(one.length * 100_000, one);
  const length = [
    (many.length & 0x7f) | 0x80,
    ((many.length >> 7) & 0x7f) | 0x80,
    ((many.length >> 14) & 0x7f) | 0x80,
    many.length >> 21,
  ];
  const refusal = refusalOf(decode([0x3a, ...length], many));
  expect(refusal?.message).toBe('stop.sequences[0]: is not UTF-8 (and 99999 more)');
  expect(refusal?.facts.violations?.length).toBe(200);
  expect(refusal?.facts.metadata).toEqual({ violations_total: '100000' });
});

test('a message that is cut anywhere is none, or one of whole fields', () => {
  const bytes = encode(request);
  const whole = new Set<number>();
  for (let end = 0, at = 0; at < bytes.length; end++) {
    // Where the fields end, by decoding one after the other.
    const part = bytes.subarray(0, end);
    try {
      decode(part);
      whole.add(end);
      at = end;
    } catch {
      expect(end).toBeLessThan(bytes.length);
    }
  }
  // text, sampling, stop, stream, priority, one label.
  expect(whole.size).toBe(7);
});

test('a wrong wire type, number 0, groups and endless numbers are refused', () => {
  for (const bytes of [
    [0x18, 5],
    [0x1d, 1, 2, 3, 4],
    [0x02, 1, 0x61],
    [0x0b, 0x0c],
    [0x1a, ...Array(11).fill(0xff)],
    [0x1a, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x61],
    field(4, field(1, [0x80])),
  ]) {
    expect(() => decode(bytes)).toThrow();
  }
});

test('any bytes are a message or an error', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      try {
        decode(bytes);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }),
    { numRuns: 5000 },
  );
});
