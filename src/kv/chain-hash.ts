// Keys of the prompt cache: a chain of SHA-256 over blocks of 128 tokens, rooted in what made the rows (identity) and
// in whose they are (scope). Two prompts have a key in common exactly when model, numerics, tenant, scope and every
// token up to there are the same. Pure; design: ../shared/design/kv-store.md 3.2.
//
//   scope key = HKDF-SHA-256(secret, info = len tenant, len scope)
//   root      = SHA-256(len "nandu-kv1", len identity, len scope key)
//   h_i       = SHA-256(h_(i-1), 128 token ids as u32le)
//
// Every field is preceded by its length, so that no two lists of fields make the same bytes.

import { createHmac, hash } from 'node:crypto';
import { BLOCK_TOKENS } from './block.js';
import type { HashKey } from './store.js';

const HASH_BYTES = 32;
/** Of identity and scope in a record's header: enough to tell them apart, and the whole hash stays ours. */
const TAG_BYTES = 16;
/** Scopes whose keys are remembered; one derived again costs 20 us. */
const MAX_SCOPES = 1024;

/** What the rows of a cache depend on besides tokens. A field that is not known is null. */
export interface IdentityFields {
  /** Digest of the weights' content, not a name. */
  readonly weights: string | null;
  /** Digest of the vocabulary and its rules; 'none' for a model without one. */
  readonly tokenizer: string | null;
  /** Version of the chat encoding and digest of the file's template. */
  readonly chatEncoding: string | null;
  readonly numericMode: string | null;
  /** Counted up when an arithmetic change alters a bit of any row. */
  readonly numericVersion: number | null;
  /** Window, ratios, ranks, RoPE: whatever decides rows besides the weights. */
  readonly geometry: string | null;
  /** Format of rows and of points. */
  readonly layout: string | null;
}

/** With an unknown field there is no identity, and so no disk tier: a guess could serve another model's rows. */
export function identityOf(fields: IdentityFields): Uint8Array | { readonly unknown: readonly string[] } {
  const named = Object.entries(fields).sort(([a], [b]) => (a < b ? -1 : 1));
  const unknown = named.filter(([, value]) => value === null || value === '').map(([name]) => name);
  if (unknown.length > 0) return { unknown };
  return bytesOf(sha256(Buffer.from(JSON.stringify(named))));
}

export interface ScopeKeys {
  /** Where chains of this identity and scope begin. */
  readonly root: HashKey;
  /** 16 bytes, in every record of this scope, whatever its identity. */
  readonly scopeTag: string;
}

export class ChainHasher {
  /** 16 bytes, in every record of this identity. */
  readonly identityTag: string;
  /** Root of the chain without identity and scope: finds out whether only one of these two differs. */
  readonly plainRoot: HashKey;
  readonly #identity: Uint8Array;
  readonly #secret: Uint8Array;
  readonly #tenant: string;
  readonly #scopes = new Map<string, ScopeKeys>();

  constructor(identity: Uint8Array, secret: Uint8Array, tenant: string) {
    this.#identity = identity;
    this.#secret = secret;
    this.#tenant = tenant;
    this.identityTag = sha256(framed('nandu-kv1 identity', identity)).slice(0, TAG_BYTES);
    // Keyed by the secret: whoever sees a record's header must not be able to test guesses of its text.
    this.plainRoot = sha256(framed('nandu-kv1 plain', secret));
  }

  scopeOf(scope: string): ScopeKeys {
    const known = this.#scopes.get(scope);
    if (known) return known;
    const scopeKey = hkdf(this.#secret, framed(this.#tenant, scope));
    const keys = {
      root: sha256(framed('nandu-kv1', this.#identity, scopeKey)),
      scopeTag: sha256(framed('nandu-kv1 scope', scopeKey)).slice(0, TAG_BYTES),
    };
    if (this.#scopes.size >= MAX_SCOPES) this.#scopes.clear();
    this.#scopes.set(scope, keys);
    return keys;
  }
}

// One block's input; hashing copies into it, so that no block allocates but its result.
const scratch = Buffer.alloc(HASH_BYTES + BLOCK_TOKENS * 4);
const scratchTokens = new Uint32Array(scratch.buffer, scratch.byteOffset + HASH_BYTES, BLOCK_TOKENS);

/** Hash at the end of one more block. `tokens` holds 128 ids. */
export function extend(previous: HashKey, tokens: Uint32Array): HashKey {
  if (tokens.length !== BLOCK_TOKENS || previous.length !== HASH_BYTES)
    throw new RangeError(`a block has ${BLOCK_TOKENS} tokens, not ${tokens.length}`);
  scratch.write(previous, 0, 'latin1');
  scratchTokens.set(tokens); // u32le: every machine we run on is little-endian
  return sha256(scratch);
}

/** Hashes at the ends of all whole blocks, the first block's first. About 1 us a block. */
export function chainOf(tokens: Uint32Array, root: HashKey): HashKey[] {
  const chain: HashKey[] = [];
  let last = root;
  for (let end = BLOCK_TOKENS; end <= tokens.length; end += BLOCK_TOKENS) {
    last = extend(last, tokens.subarray(end - BLOCK_TOKENS, end));
    chain.push(last);
  }
  return chain;
}

/** The name that clients see: 64 hexadecimal digits. */
export function prefixIdOf(key: HashKey): string {
  return Buffer.from(key, 'latin1').toString('hex');
}

/** null: not 64 hexadecimal digits. */
export function keyOfPrefixId(prefixId: string): HashKey | null {
  return /^[0-9a-f]{64}$/i.test(prefixId) ? Buffer.from(prefixId, 'hex').toString('latin1') : null;
}

export function bytesOf(key: string): Uint8Array {
  return new Uint8Array(Buffer.from(key, 'latin1'));
}

function framed(...fields: readonly (string | Uint8Array)[]): Buffer {
  return Buffer.concat(
    fields.flatMap((field) => {
      const bytes = typeof field === 'string' ? Buffer.from(field, 'utf8') : field;
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      return [length, bytes];
    }),
  );
}

/** RFC 5869 without salt, 32 bytes out; node's own refuses an info of over 1,024 bytes, which a long scope makes. */
function hkdf(secret: Uint8Array, info: Uint8Array): Uint8Array {
  const pseudorandomKey = createHmac('sha256', new Uint8Array(HASH_BYTES)).update(secret).digest();
  return createHmac('sha256', pseudorandomKey).update(info).update(Uint8Array.of(1)).digest();
}

/** One call: createHash takes twice as long for inputs this short. */
function sha256(bytes: Uint8Array): HashKey {
  return hash('sha256', bytes, 'binary');
}
