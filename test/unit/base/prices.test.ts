// Prices: exact from the text of a file to the last pico of a cost, and every wrong file refused by line and entry.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../../src/base/configuration-error.js';
import { parsePriceList, readPriceList } from '../../../src/base/price-list.js';
import {
  amountText,
  costOf,
  DEFAULT_PRICES,
  type PriceClass,
  type PriceList,
  parsePrice,
  priceClassAt,
} from '../../../src/base/prices.js';

const standard = DEFAULT_PRICES.classes[0] as PriceClass;

describe('a price for a million tokens', () => {
  test.each([
    ['0.025', 25_000n],
    ['3', 3_000_000n],
    ['6.000', 6_000_000n],
    ['0', 0n],
    ['0.000001', 1n],
    ['0.0000010', 1n],
    ['12.345678', 12_345_678n],
    ['100000', 100_000_000_000n],
  ])('"%s" is exact', (text, picos) => {
    expect(parsePrice(text)).toBe(picos);
  });

  test.each([
    ['0.0000001', 'more than 6 decimals'],
    ['100000.000001', 'above 100000'],
    ['1e-3', 'is not a price'],
    ['-1', 'is not a price'],
    ['+1', 'is not a price'],
    ['.5', 'is not a price'],
    ['1.', 'is not a price'],
    ['', 'is not a price'],
    ['0x10', 'is not a price'],
    ['NaN', 'is not a price'],
    ['1,5', 'is not a price'],
  ])('"%s" is refused', (text, why) => {
    expect(parsePrice(text)).toContain(why);
  });
});

describe('a cost', () => {
  test('is what the default list says: a hit is 1/120 of a miss', () => {
    expect(costOf({ hitTokens: 1_000_000, missTokens: 0, outputTokens: 0 }, standard)).toBe(25_000_000_000n);
    expect(costOf({ hitTokens: 0, missTokens: 1_000_000, outputTokens: 0 }, standard)).toBe(3_000_000_000_000n);
    expect(costOf({ hitTokens: 0, missTokens: 0, outputTokens: 1_000_000 }, standard)).toBe(6_000_000_000_000n);
    expect(standard.hit * 120n).toBe(standard.miss);
  });

  test('of a ledger of requests is the sum of its parts, and no order or split changes it', () => {
    const tokens = fc.record({
      hitTokens: fc.nat(1 << 20),
      missTokens: fc.nat(1 << 20),
      outputTokens: fc.nat(1 << 20),
    });
    fc.assert(
      fc.property(fc.array(tokens, { minLength: 1, maxLength: 20 }), (ledger) => {
        const rows = ledger.map((row) => costOf(row, standard) as bigint);
        const sum = (field: keyof (typeof ledger)[number]) => ledger.reduce((total, row) => total + row[field], 0);
        const whole = costOf(
          { hitTokens: sum('hitTokens'), missTokens: sum('missTokens'), outputTokens: sum('outputTokens') },
          standard,
        );
        expect(rows.reduce((total, picos) => total + picos)).toBe(whole);
      }),
    );
  });

  test('at the highest price is exact for 92 million tokens, and beyond 63 bits is none at all', () => {
    const dear: PriceClass = { name: 'x', hit: 0n, miss: parsePrice('100000') as bigint, output: 0n, hours: null };
    const of = (missTokens: number) => costOf({ hitTokens: 0, missTokens, outputTokens: 0 }, dear);
    expect(of(92_233_720)).toBe(9_223_372_000_000_000_000n);
    expect(of(92_233_721)).toBeNull();
    // One million tokens of prompt and eight answers as long stay far below.
    expect(of(9 * 2 ** 20)).not.toBeNull();
  });

  test('is written with all digits that count', () => {
    expect(['0', '25000', '1000000000000', '3000000000001'].map((picos) => amountText(BigInt(picos)))).toEqual([
      '0',
      '0.000000025',
      '1',
      '3.000000000001',
    ]);
  });
});

const file = (classes: string, head = 'currency: USD\nname: 2026-11\n') =>
  parsePriceList(`${head}classes:\n${classes}`, 'p.yaml');
const prices = 'hit: "0.1", miss: "1", output: "2"';
const at = (list: PriceList, clock: string) => priceClassAt(list, Date.parse(`2026-11-29T${clock}Z`)).name;

describe('a price list', () => {
  test('is read as it is written, quoted or not', () => {
    const list = file('  - name: all day\n    hit: 0.025\n    miss: "3.0"\n    output: 6\n');
    expect(list).toEqual({
      ...{ currency: 'USD', name: '2026-11' },
      classes: [{ name: 'all day', hit: 25_000n, miss: 3_000_000n, output: 6_000_000n, hours: null }],
    });
  });

  test('has classes for hours of the day in UTC, and one for the rest', () => {
    const list = file(`  - { name: peak, ${prices}, hours: "08:30-24:00" }\n  - { name: night, ${prices} }\n`);
    expect(['00:00:00', '08:29:59.999', '08:30:00', '23:59:59.999'].map((clock) => at(list, clock))).toEqual([
      'night',
      'night',
      'peak',
      'peak',
    ]);
  });

  test('has ranges that go over midnight, and several of them', () => {
    const list = file(
      `  - { name: low, ${prices}, hours: ["16:30-00:30", "12:00-13:00"] }\n  - { name: high, ${prices} }\n`,
    );
    expect(
      ['00:29:59', '00:30:00', '12:30:00', '13:00:00', '16:29:00', '16:30:00'].map((clock) => at(list, clock)),
    ).toEqual([...['low', 'high', 'low', 'high', 'high', 'low']]);
  });

  test('covers every minute of every day exactly once', () => {
    const list = file(
      `  - { name: a, ${prices}, hours: "00:00-12:00" }\n  - { name: b, ${prices}, hours: "12:00-24:00" }\n`,
    );
    for (let minute = 0; minute < 24 * 60; minute++) {
      const covering = list.classes.filter(({ hours }) =>
        hours?.some(({ begin, end }) => minute >= begin && minute < end),
      );
      expect(covering.map(({ name }) => name)).toEqual([priceClassAt(list, minute * 60_000).name]);
    }
  });

  const one = `  - { name: a, ${prices} }\n`;
  test.each([
    ['currency: usd\nname: x\nclasses:\n', one, 'p.yaml:1: currency: is not an ISO 4217 code such as CNY'],
    ['name: x\nclasses:\n', one, 'p.yaml:1: currency: is missing'],
    ['currency: USD\nname: ""\nclasses:\n', one, 'p.yaml:2: name: must be 1 to 64 characters'],
    ['currency: USD\nname: x\ntax: 1\nclasses:\n', one, 'p.yaml:3: tax: is unknown; known are currency, name, classes'],
    ['currency: USD\nname: x\nclasses:\n', '', 'p.yaml:3: classes: must be a list with one entry or more'],
    ['currency: USD\nname: x\nclasses: []\n', '', 'p.yaml:3: classes: must be a list with one entry or more'],
    ['currency: USD\nname: x\n', '', 'p.yaml:1: classes: must be a list with one entry or more'],
    ['', '', 'p.yaml:1: a price list: must be a map of currency, name, classes'],
    ['- 1\n', '', 'p.yaml:1: a price list: must be a map of currency, name, classes'],
    ['currency: [USD\n', '', /^p\.yaml:\d+: /],
    ['currency: USD\ncurrency: CNY\nname: x\nclasses:\n', one, /^p\.yaml:2: .*unique/],
  ])('%j %j is refused by line', (head, classes, message) => {
    expect(problem(() => parsePriceList(`${head}${classes}`, 'p.yaml'))).toMatch(message);
  });

  test.each([
    ['hit: 1, miss: 1, output: 1', 'p.yaml:5: classes[1].name: is missing'],
    ['name: a, hit: 1, miss: 1, output: 1', 'p.yaml:5: classes[1].name: "a" is the name of another class too'],
    ['name: b, miss: 1, output: 1', 'p.yaml:5: classes[1].hit: is missing'],
    ['name: b, hit: 1, miss: 0.0000001, output: 1', 'p.yaml:5: classes[1].miss: has more than 6 decimals'],
    ['name: b, hit: 1, miss: 1, output: -1', 'p.yaml:5: classes[1].output: is not a price'],
    ['name: b, hit: 1, miss: [1], output: 1', 'p.yaml:5: classes[1].miss: must be a text or a number'],
    ['name: b, hit: , miss: 1, output: 1', 'p.yaml:5: classes[1].hit: must be a text or a number'],
    ['name: b, hit: 1, miss: 1, output: 1, hour: 3', 'p.yaml:5: classes[1].hour: is unknown'],
    ['name: b, hit: 1, miss: 1, output: 1, hours: 8-9', 'p.yaml:5: classes[1].hours: must be a range such as'],
    ['name: b, hit: 1, miss: 1, output: 1, hours: "08:60-09:00"', '"08:60-09:00" is not a range of the day'],
    ['name: b, hit: 1, miss: 1, output: 1, hours: "24:00-01:00"', '"24:00-01:00" is not a range of the day'],
    ['name: b, hit: 1, miss: 1, output: 1, hours: "08:00-24:01"', '"08:00-24:01" is not a range of the day'],
    ['name: b, hit: 1, miss: 1, output: 1, hours: "08:00-08:00"', '"08:00-08:00" is empty'],
    ['name: b, hit: 1, miss: 1, output: 1, hours: []', 'p.yaml:5: classes[1].hours: must be 1 to 16 ranges'],
    ['name: b, hit: 1, miss: 1, output: 1', 'p.yaml:5: classes[1]: is the second class without hours'],
    [
      'name: b, hit: 1, miss: 1, output: 1, hours: ["08:00-10:00", "09:30-11:00"]',
      'classes[1].hours: 09:30 belongs to "b" too',
    ],
  ])('a second class of { %s } is refused by line and entry', (second, message) => {
    expect(problem(() => file(`${one}  - { ${second} }\n`))).toContain(message);
  });

  test('with a gap in the day is refused', () => {
    const classes = `  - { name: a, ${prices}, hours: "00:00-12:00" }\n  - { name: b, ${prices}, hours: "12:01-24:00" }\n`;
    expect(problem(() => file(classes))).toContain('no class covers 12:00');
  });

  test('that cannot be read, or is no list at all, is refused by name', () => {
    expect(problem(() => readPriceList('/nowhere/p.yaml'))).toContain('/nowhere/p.yaml');
    expect(problem(() => parsePriceList('['.repeat(60_000), 'p.yaml'))).toMatch(/^p\.yaml:\d+: /);
    expect(problem(() => parsePriceList('currency: &a [*a]\n', 'p.yaml'))).toMatch(/^p\.yaml:\d+: /);
  });
});

test('whatever a file holds, it is a list or a refusal by line', () => {
  const word = fc.constantFrom(
    'currency',
    'name',
    'classes',
    'hit',
    'hours',
    ':',
    '- ',
    '\n',
    '  ',
    '{',
    '}',
    '[',
    '"',
    '&a',
    '*a',
    '!!',
    '1',
    '|',
    '---',
    '\t',
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(word, fc.string({ maxLength: 4 })), { maxLength: 40 }), (words) => {
      try {
        parsePriceList(words.join(''), 'p.yaml');
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigurationError);
        expect((error as Error).message).toMatch(/^p\.yaml:\d+: /);
      }
    }),
    { numRuns: 2000 },
  );
});

function problem(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    expect(error).toBeInstanceOf(ConfigurationError);
    expect((error as ConfigurationError).source).toBe('file');
    return (error as Error).message;
  }
  throw new Error('the list was accepted');
}
