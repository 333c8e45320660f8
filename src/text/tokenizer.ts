// Text to token ids and back, by the vocabulary and merges of a model file (byte-level BPE, deepseek-v4.md §5.4).
// Any string survives the round trip byte for byte; special tokens come out of text only where the caller asks for it.
// Synchronous; text-service.ts decides on which thread it runs.

import { applyMerges, MergeTable } from './bpe.js';
import { DEEPSEEK_PRETOKENIZERS, PieceScanner } from './pretokenizer.js';
import { SpecialTokens } from './special-tokens.js';
import { BYTE_TO_CHAR, bytesOfSpelling, TokenType, type Vocabulary, VocabularyError } from './vocabulary.js';
import { WordCache } from './word-cache.js';

export interface EncodeOptions {
  /** Read the texts of special tokens as those tokens. Default false: they are ordinary text. */
  readonly parseSpecial?: boolean;
  /** Put BOS in front. Default false. */
  readonly addBos?: boolean;
  /** Stop soon after more than this many tokens exist: the result is then longer than this, and not complete. */
  readonly maxTokens?: number;
  /** Asked now and then; true stops like maxTokens. */
  readonly isCancelled?: () => boolean;
}

/** A piece of text that is one special token, or ordinary text. */
export interface TextPart {
  readonly text: string;
  /** null: ordinary. */
  readonly specialId: number | null;
}

const NO_BYTES = new Uint8Array(0);

/** Pieces between two looks at `isCancelled`. */
const PIECES_PER_CHECK = 8192;

export class Tokenizer {
  readonly numTokens: number;
  /** Of the longest token: n bytes of text have at least n / longestBytes tokens. */
  readonly #longestBytes: number;
  readonly #tokenStart: Uint32Array;
  readonly #tokenData: Uint8Array;
  readonly #isSpecial: Uint8Array;
  readonly #special = new SpecialTokens();
  readonly #byteIds = new Int32Array(256);
  readonly #merges: MergeTable;
  readonly #cache = new WordCache();
  #symbols = new Int32Array(256);

  /** Checks the whole vocabulary; throws VocabularyError naming the GGUF key. About 0.2 s for 129,280 tokens. */
  constructor(readonly vocabulary: Vocabulary) {
    const { tokens, tokenTypes, merges, pre } = vocabulary;
    if (!DEEPSEEK_PRETOKENIZERS.has(pre)) {
      throw new VocabularyError('tokenizer.ggml.pre', `"${pre}" is not known (supported: joyai-llm, deepseek-v3)`);
    }
    if (tokens.length === 0) throw new VocabularyError('tokenizer.ggml.tokens', 'is empty');
    if (tokenTypes.length !== tokens.length) {
      throw new VocabularyError(
        'tokenizer.ggml.token_type',
        `has ${tokenTypes.length} entries for ${tokens.length} tokens`,
      );
    }
    for (const [key, id] of [
      ['bos', vocabulary.bosId],
      ['eos', vocabulary.eosId],
    ] as const) {
      if (!Number.isInteger(id) || id < 0 || id >= tokens.length) {
        throw new VocabularyError(`tokenizer.ggml.${key}_token_id`, `${id} is not one of the ${tokens.length} tokens`);
      }
    }
    this.numTokens = tokens.length;
    this.#isSpecial = new Uint8Array(tokens.length);
    this.#tokenStart = new Uint32Array(tokens.length + 1);
    const ordinaryIds = new Map<string, number>();
    const { data, longest } = this.#readTokens(ordinaryIds);
    this.#tokenData = data;
    this.#longestBytes = longest;
    for (let byte = 0; byte < 256; byte++) {
      const id = ordinaryIds.get(BYTE_TO_CHAR[byte] as string);
      if (id === undefined) {
        const hex = byte.toString(16).padStart(2, '0');
        throw new VocabularyError('tokenizer.ggml.tokens', `no token stands for the single byte 0x${hex}`);
      }
      this.#byteIds[byte] = id;
    }
    if (merges.length === 0) throw new VocabularyError('tokenizer.ggml.merges', 'is empty');
    this.#merges = readMerges(merges, ordinaryIds);
  }

  /** Token ids of `text`. A lone surrogate counts as U+FFFD, as in any UTF-8 encoding of it. */
  encode(text: string, options: EncodeOptions = {}): Uint32Array {
    const out = new IdBuffer(Math.min(text.length, 1 << 16) + 2, options);
    if (options.addBos) out.push(this.vocabulary.bosId);
    // No token spans more than #longestBytes and no UTF-16 unit less than one byte, so this much text is too much.
    const enoughUnits = ((options.maxTokens ?? Number.POSITIVE_INFINITY) + 1) * this.#longestBytes;
    const wellFormed = text.slice(0, enoughUnits).replace(/\p{Surrogate}/gu, '\ufffd');
    if (!options.parseSpecial) this.#encodeOrdinary(wellFormed, 0, wellFormed.length, out);
    else {
      this.#special.split(wellFormed, (start, end, specialId) => {
        if (specialId === null) this.#encodeOrdinary(wellFormed, start, end, out);
        else out.push(specialId);
        return !out.isStopped;
      });
    }
    return out.toArray();
  }

  /** `text` cut at the texts of special tokens. */
  splitSpecial(text: string): TextPart[] {
    const parts: TextPart[] = [];
    this.#special.split(text, (start, end, specialId) => {
      parts.push({ text: text.slice(start, end), specialId });
      return true;
    });
    return parts;
  }

  /** Id of the special token with this text. */
  specialId(text: string): number | undefined {
    return this.#special.idOf(text);
  }

  /** Control, user-defined, unknown and unused tokens, and ids beyond the last token: no part of ordinary text. */
  isSpecial(id: number): boolean {
    return this.#isSpecial[id] !== 0;
  }

  /**
   * Bytes of one token; of a special one, its text in UTF-8; none beyond the last token, where the rows that pad a model's
   * matrices are. A view, not to be changed.
   */
  tokenBytes(id: number): Uint8Array {
    if (!Number.isInteger(id) || id < 0) throw new RangeError(`no token ${id}`);
    if (id >= this.numTokens) return NO_BYTES;
    return this.#tokenData.subarray(this.#tokenStart[id], this.#tokenStart[id + 1]);
  }

  /** All bytes in order, and their text with invalid UTF-8 replaced. Without showSpecial neither holds specials. */
  decode(ids: Iterable<number>, options: { showSpecial?: boolean } = {}): { text: string; bytes: Uint8Array } {
    const pieces: Uint8Array[] = [];
    for (const id of ids) {
      const bytes = this.tokenBytes(id);
      if (options.showSpecial || !this.isSpecial(id)) pieces.push(bytes);
    }
    const bytes = new Uint8Array(Buffer.concat(pieces));
    return { text: new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes), bytes };
  }

  #readTokens(ordinaryIds: Map<string, number>): { data: Uint8Array; longest: number } {
    const { tokens, tokenTypes } = this.vocabulary;
    const pieces: Uint8Array[] = [];
    let total = 0;
    let longest = 1;
    for (let id = 0; id < tokens.length; id++) {
      const token = tokens[id] as string;
      const type = tokenTypes[id] as number;
      let bytes: Uint8Array | null = null;
      if (type === TokenType.NORMAL) {
        if (!ordinaryIds.has(token)) ordinaryIds.set(token, id);
        bytes = bytesOfSpelling(token);
      } else {
        this.#isSpecial[id] = 1;
        const isMarker = type === TokenType.CONTROL || type === TokenType.USER_DEFINED;
        if (isMarker) this.#special.add(token, id);
      }
      bytes ??= Buffer.from(token, 'utf8');
      longest = Math.max(longest, bytes.length);
      pieces.push(bytes);
      this.#tokenStart[id] = total;
      total += bytes.length;
    }
    this.#tokenStart[tokens.length] = total;
    return { data: new Uint8Array(Buffer.concat(pieces)), longest };
  }

  #encodeOrdinary(text: string, from: number, to: number, out: IdBuffer): void {
    const scanner = new PieceScanner(text, from, to);
    for (let count = 1; !out.isStopped && scanner.next(); count++) {
      if (count % PIECES_PER_CHECK === 0) out.check();
      const { start, end } = scanner;
      const entry = this.#cache.find(text, start, end);
      if (entry !== 0) {
        out.pushCached(this.#cache, entry);
        continue;
      }
      const numBytes = this.#bytesToSymbols(text, start, end);
      const numIds = applyMerges(this.#merges, this.#symbols, numBytes, out.isCancelled);
      this.#cache.add(text, start, end, this.#symbols, numIds);
      out.pushAll(this.#symbols, numIds);
    }
    // One enormous piece must not keep its scratch memory for ever.
    if (this.#symbols.length > 1 << 20) this.#symbols = new Int32Array(256);
  }

  /** UTF-8 of text[start, end) as single-byte tokens in #symbols; returns how many. */
  #bytesToSymbols(text: string, start: number, end: number): number {
    const most = (end - start) * 3;
    if (this.#symbols.length < most) this.#symbols = new Int32Array(most);
    const symbols = this.#symbols;
    const ids = this.#byteIds;
    let count = 0;
    for (let i = start; i < end; i++) {
      let code = text.charCodeAt(i);
      if (code < 0x80) {
        symbols[count++] = ids[code] as number;
        continue;
      }
      if (code < 0x800) {
        symbols[count++] = ids[0xc0 | (code >> 6)] as number;
      } else {
        if (code >= 0xd800 && code <= 0xdbff) {
          code = 0x10000 + ((code & 0x3ff) << 10) + (text.charCodeAt(++i) & 0x3ff);
          symbols[count++] = ids[0xf0 | (code >> 18)] as number;
          symbols[count++] = ids[0x80 | ((code >> 12) & 0x3f)] as number;
        } else {
          symbols[count++] = ids[0xe0 | (code >> 12)] as number;
        }
        symbols[count++] = ids[0x80 | ((code >> 6) & 0x3f)] as number;
      }
      symbols[count++] = ids[0x80 | (code & 0x3f)] as number;
    }
    return count;
  }
}

function readMerges(merges: readonly string[], ordinaryIds: ReadonlyMap<string, number>): MergeTable {
  const table = new MergeTable(merges.length);
  for (let rank = 0; rank < merges.length; rank++) {
    const merge = merges[rank] as string;
    const space = merge.indexOf(' ', 1);
    const left = merge.slice(0, Math.max(0, space));
    const right = merge.slice(space + 1);
    if (space < 0 || right === '') {
      throw new VocabularyError(`tokenizer.ggml.merges[${rank}]`, `${JSON.stringify(merge)} is not "left right"`);
    }
    const idOf = (token: string): number => {
      const id = ordinaryIds.get(token);
      if (id === undefined) {
        throw new VocabularyError(
          `tokenizer.ggml.merges[${rank}]`,
          `${JSON.stringify(token)} is not an ordinary token of tokenizer.ggml.tokens`,
        );
      }
      return id;
    };
    table.add(idOf(left), idOf(right), rank, idOf(left + right));
  }
  return table;
}

/** Growing list of ids that knows when to stop. */
class IdBuffer {
  isStopped = false;
  #ids: Uint32Array;
  #length = 0;
  readonly #maxTokens: number;
  readonly isCancelled: () => boolean;

  constructor(capacity: number, options: EncodeOptions) {
    this.#ids = new Uint32Array(capacity);
    this.#maxTokens = options.maxTokens ?? Number.POSITIVE_INFINITY;
    this.isCancelled = options.isCancelled ?? (() => false);
  }

  check(): void {
    if (this.isCancelled()) this.isStopped = true;
  }

  push(id: number): void {
    this.#reserve(1);
    this.#ids[this.#length] = id;
    this.#grow(1);
  }

  pushAll(ids: Int32Array, count: number): void {
    this.#reserve(count);
    for (let i = 0; i < count; i++) this.#ids[this.#length + i] = ids[i] as number;
    this.#grow(count);
  }

  pushCached(cache: WordCache, entry: number): void {
    this.#reserve(cache.numIds(entry));
    this.#grow(cache.copyIds(entry, this.#ids, this.#length));
  }

  toArray(): Uint32Array {
    return this.#ids.slice(0, this.#length);
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#ids.length) return;
    const larger = new Uint32Array(Math.max(this.#ids.length * 2, this.#length + count));
    larger.set(this.#ids);
    this.#ids = larger;
  }

  #grow(count: number): void {
    this.#length += count;
    if (this.#length > this.#maxTokens) this.isStopped = true;
  }
}
