// Reads a price list from YAML (--prices): currency, name, and classes with the prices of a million tokens. Whatever is
// wrong is named by file, line and entry. Prices are taken as they are written, never through a floating-point number.

import { readFileSync } from 'node:fs';
import { isMap, isScalar, isSeq, LineCounter, type Node, type ParsedNode, parseDocument, type YAMLMap } from 'yaml';
import { ConfigurationError } from './configuration-error.js';
import { type Hours, MINUTES_A_DAY, type PriceClass, type PriceList, parsePrice } from './prices.js';

/** A list of a few classes is a few hundred bytes. */
const FILE_BYTES_MAX = 64 * 1024;
const NAME_CHARS_MAX = 64;
const CLASSES_MAX = 16;
const RANGES_MAX = 16;

/** Throws ConfigurationError. */
export function readPriceList(path: string): PriceList {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (error) {
    throw new ConfigurationError(`${path}: ${(error as Error).message}`, 'file');
  }
  if (bytes.length > FILE_BYTES_MAX) {
    throw new ConfigurationError(`${path}: is larger than ${FILE_BYTES_MAX} bytes: not a price list`, 'file');
  }
  return parsePriceList(bytes.toString('utf8'), path);
}

/** `name`: the file, for messages. */
export function parsePriceList(text: string, name: string): PriceList {
  return new Reader(text, name).list();
}

class Reader {
  readonly #lines = new LineCounter();
  readonly #root: ParsedNode | null;

  constructor(
    text: string,
    private readonly file: string,
  ) {
    const document = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
    const [error] = document.errors;
    if (error) this.#refuseAt(error.pos[0], error.message.replace(/\s+/g, ' '));
    this.#root = document.contents;
  }

  list(): PriceList {
    const root = this.#map(this.#root, '', ['currency', 'name', 'classes']);
    const currency = this.#text(root, 'currency', 'currency');
    if (!/^[A-Z]{3}$/.test(currency))
      this.#refuse(root.get('currency', true), 'currency', 'is not an ISO 4217 code such as CNY');
    const name = this.#name(root, 'name', 'name');
    const entries = root.get('classes', true);
    if (!isSeq(entries) || entries.items.length === 0)
      this.#refuse(entries ?? root, 'classes', 'must be a list with one entry or more');
    if (entries.items.length > CLASSES_MAX) this.#refuse(entries, 'classes', `holds more than ${CLASSES_MAX} entries`);
    const classes = entries.items.map((entry, index) => this.#class(entry, `classes[${index}]`));
    this.#checkNames(classes, entries.items as Node[]);
    this.#checkDay(classes, entries.items as Node[]);
    return { name, currency, classes };
  }

  #class(entry: unknown, at: string): PriceClass {
    const map = this.#map(entry, at, ['name', 'hit', 'miss', 'output', 'hours']);
    const price = (key: 'hit' | 'miss' | 'output'): bigint => {
      const picos = parsePrice(this.#text(map, key, `${at}.${key}`));
      return typeof picos === 'bigint' ? picos : this.#refuse(map.get(key, true), `${at}.${key}`, picos);
    };
    return {
      name: this.#name(map, 'name', `${at}.name`),
      hit: price('hit'),
      miss: price('miss'),
      output: price('output'),
      hours: map.has('hours') ? this.#hours(map.get('hours', true), `${at}.hours`) : null,
    };
  }

  /** "08:30-24:00", or a list of such. A range that ends before it begins goes on after midnight. */
  #hours(node: unknown, at: string): Hours[] {
    const ranges = isSeq(node) ? node.items : [node];
    if (ranges.length === 0 || ranges.length > RANGES_MAX) this.#refuse(node, at, `must be 1 to ${RANGES_MAX} ranges`);
    return ranges.flatMap((range) => {
      const text = isScalar(range) ? sourceOf(range) : '';
      const match = /^(\d\d):(\d\d)-(\d\d):(\d\d)$/.exec(text);
      if (!match) this.#refuse(range ?? node, at, 'must be a range such as 08:30-24:00, in UTC');
      const [fromHour, fromMinute, toHour, toMinute] = match.slice(1).map(Number) as [number, number, number, number];
      const begin = fromHour * 60 + fromMinute;
      const end = toHour * 60 + toMinute;
      if (fromMinute > 59 || toMinute > 59 || begin >= MINUTES_A_DAY || end > MINUTES_A_DAY) {
        this.#refuse(range, at, `"${text}" is not a range of the day: 00:00 to 24:00`);
      }
      if (begin === end) this.#refuse(range, at, `"${text}" is empty; leave hours out for the whole day`);
      if (begin < end) return [{ begin, end }];
      return [{ begin, end: MINUTES_A_DAY }, ...(end > 0 ? [{ begin: 0, end }] : [])];
    });
  }

  #checkNames(classes: readonly PriceClass[], nodes: readonly Node[]): void {
    for (const [index, { name }] of classes.entries()) {
      if (classes.findIndex((other) => other.name === name) === index) continue;
      this.#refuse(nodes[index], `classes[${index}].name`, `"${name}" is the name of another class too`);
    }
  }

  /** Every minute has one price. */
  #checkDay(classes: readonly PriceClass[], nodes: readonly Node[]): void {
    const owners = new Int8Array(MINUTES_A_DAY).fill(-1);
    for (const [index, { hours }] of classes.entries()) {
      for (const { begin, end } of hours ?? []) {
        const taken = owners.subarray(begin, end).findIndex((owner) => owner >= 0);
        if (taken >= 0) {
          const other = classes[owners[begin + taken] as number]?.name;
          this.#refuse(nodes[index], `classes[${index}].hours`, `${clock(begin + taken)} belongs to "${other}" too`);
        }
        owners.fill(index, begin, end);
      }
    }
    const [rest, second] = classes.flatMap(({ hours }, index) => (hours === null ? [index] : []));
    if (second !== undefined) this.#refuse(nodes[second], `classes[${second}]`, 'is the second class without hours');
    const gap = owners.indexOf(-1);
    if (rest === undefined && gap >= 0) {
      this.#refuse(nodes[0], 'classes', `no class covers ${clock(gap)}; one without hours covers the rest of the day`);
    }
  }

  #map(node: unknown, at: string, keys: readonly string[]): YAMLMap {
    const what = at === '' ? 'a price list' : at;
    if (!isMap(node)) return this.#refuse(node, what, `must be a map of ${keys.join(', ')}`);
    for (const { key } of node.items) {
      const name = isScalar(key) ? String(key.value) : '';
      if (!keys.includes(name))
        this.#refuse(key, at === '' ? name : `${at}.${name}`, `is unknown; known are ${keys.join(', ')}`);
    }
    return node;
  }

  #name(map: YAMLMap, key: string, at: string): string {
    const name = this.#text(map, key, at);
    if (name === '' || name.length > NAME_CHARS_MAX || /\p{Cc}/u.test(name)) {
      this.#refuse(map.get(key, true), at, `must be 1 to ${NAME_CHARS_MAX} characters`);
    }
    return name;
  }

  #text(map: YAMLMap, key: string, at: string): string {
    const node = map.get(key, true);
    if (node === undefined) this.#refuse(map, at, 'is missing');
    if (!isScalar(node) || node.value === null) return this.#refuse(node, at, 'must be a text or a number');
    return sourceOf(node);
  }

  #refuse(node: unknown, at: string, why: string): never {
    const range = (node as Node | null | undefined)?.range;
    return this.#refuseAt(range?.[0] ?? 0, `${at}: ${why}`);
  }

  #refuseAt(offset: number, why: string): never {
    throw new ConfigurationError(`${this.file}:${this.#lines.linePos(offset).line}: ${why}`, 'file');
  }
}

/** As a person wrote it: 0.025 stays 0.025. */
function sourceOf(scalar: { readonly value: unknown; readonly source?: string }): string {
  return typeof scalar.value === 'string' ? scalar.value : (scalar.source ?? String(scalar.value));
}

function clock(minute: number): string {
  return `${String(Math.floor(minute / 60)).padStart(2, '0')}:${String(minute % 60).padStart(2, '0')}`;
}
