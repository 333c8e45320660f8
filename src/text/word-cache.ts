// Remembers the ids of pieces that have been merged before. Keys are UTF-16 units copied into one array: a cached
// slice of a JavaScript string would keep the whole prompt alive. Fixed memory (about 6 MB): full means empty again.
// Words come from clients, who may choose those that collide: the hash is seeded and the search short.

import { randomInt } from 'node:crypto';

const WORD_UNITS_MAX = 48;
export const NUM_SLOTS = 1 << 17;
const NUM_ENTRIES = NUM_SLOTS >> 1;
const UNIT_POOL = 1 << 20;
const ID_POOL = 1 << 19;
/** Slots that a word may be in. Half full at most, as the table is, all are taken for fewer than one word in a hundred. */
export const PROBES_MAX = 16;

export class WordCache {
  readonly #slots = new Int32Array(NUM_SLOTS);
  /** Where the units and ids of entry e begin; they end where those of e + 1 begin. Entry 0 is unused. */
  readonly #unitStart = new Int32Array(NUM_ENTRIES + 2);
  readonly #idStart = new Int32Array(NUM_ENTRIES + 2);
  readonly #hashes = new Int32Array(NUM_ENTRIES + 2);
  readonly #units = new Uint16Array(UNIT_POOL);
  readonly #ids = new Int32Array(ID_POOL);
  readonly #seed: number;
  #numEntries = 0;
  /** Of the last find(). */
  #hash = 0;
  /** Where the word that the last find() missed can be put; negative: nowhere. */
  #freeSlot = -1;

  constructor(seed = randomInt(2 ** 32)) {
    this.#seed = seed | 0;
  }

  /** Entry of text[start, end), 0 when it is not known. */
  find(text: string, start: number, end: number): number {
    if (end - start > WORD_UNITS_MAX) return 0;
    const hash = hashWord(text, start, end, this.#seed);
    this.#hash = hash;
    this.#freeSlot = -1;
    for (let probe = 0; probe < PROBES_MAX; probe++) {
      const slot = (hash + probe) & (NUM_SLOTS - 1);
      const entry = this.#slots[slot] as number;
      if (entry === 0) {
        this.#freeSlot = slot;
        return 0;
      }
      if (this.#hashes[entry] === hash && this.#isEqual(entry, text, start, end)) return entry;
    }
    return 0;
  }

  /** Appends the entry's ids to `out` from `at`; returns how many. */
  copyIds(entry: number, out: Uint32Array, at: number): number {
    const first = this.#idStart[entry] as number;
    const last = this.#idStart[entry + 1] as number;
    for (let i = first; i < last; i++) out[at + i - first] = this.#ids[i] as number;
    return last - first;
  }

  numIds(entry: number): number {
    return (this.#idStart[entry + 1] as number) - (this.#idStart[entry] as number);
  }

  /** Stores what the last find() missed, if there is a place for it. */
  add(text: string, start: number, end: number, ids: Int32Array, numIds: number): void {
    if (end - start > WORD_UNITS_MAX || this.#freeSlot < 0) return;
    const unitsEnd = this.#unitStart[this.#numEntries + 1] as number;
    const idsEnd = this.#idStart[this.#numEntries + 1] as number;
    if (this.#numEntries >= NUM_ENTRIES - 1 || unitsEnd + end - start > UNIT_POOL || idsEnd + numIds > ID_POOL) {
      this.#slots.fill(0);
      this.#numEntries = 0;
      this.#freeSlot = this.#hash & (NUM_SLOTS - 1);
      this.#append(text, start, end, ids, numIds, 0, 0);
    } else {
      this.#append(text, start, end, ids, numIds, unitsEnd, idsEnd);
    }
  }

  #append(
    text: string,
    start: number,
    end: number,
    ids: Int32Array,
    numIds: number,
    unitsAt: number,
    idsAt: number,
  ): void {
    const entry = ++this.#numEntries;
    this.#unitStart[entry] = unitsAt;
    this.#idStart[entry] = idsAt;
    this.#unitStart[entry + 1] = unitsAt + end - start;
    this.#idStart[entry + 1] = idsAt + numIds;
    for (let i = start; i < end; i++) this.#units[unitsAt + i - start] = text.charCodeAt(i);
    for (let i = 0; i < numIds; i++) this.#ids[idsAt + i] = ids[i] as number;
    this.#hashes[entry] = this.#hash;
    this.#slots[this.#freeSlot] = entry;
    this.#freeSlot = -1;
  }

  #isEqual(entry: number, text: string, start: number, end: number): boolean {
    const first = this.#unitStart[entry] as number;
    if ((this.#unitStart[entry + 1] as number) - first !== end - start) return false;
    for (let i = start; i < end; i++) {
      if (this.#units[first + i - start] !== text.charCodeAt(i)) return false;
    }
    return true;
  }
}

/** FNV-1a over UTF-16 units. */
export function hashWord(text: string, start: number, end: number, seed: number): number {
  let hash = seed ^ (end - start);
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash ^ (hash >>> 15);
}
