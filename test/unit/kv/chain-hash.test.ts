// Keys are what they should be (against the written-out definition and node's own HKDF), and nothing collides by
// framing. That SHA-256 has no collisions is not proved here.

import { createHash, hkdfSync } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BLOCK_TOKENS } from '../../../src/kv/block.js';
import {
  bytesOf,
  ChainHasher,
  chainOf,
  extend,
  type IdentityFields,
  identityOf,
  keyOfPrefixId,
  prefixIdOf,
} from '../../../src/kv/chain-hash.js';

const fields: IdentityFields = {
  weights: 'w',
  tokenizer: 't',
  chatEncoding: 'c',
  numericMode: 'reference',
  numericVersion: 1,
  geometry: 'g',
  layout: 'l',
};
const identity = identityOf(fields) as Uint8Array;
const secret = new Uint8Array(32).fill(7);
const tokens = (count: number, seed = 1) => Uint32Array.from({ length: count }, (_, i) => (i * 7919 * seed) % 129280);

const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const framed = (...parts: Uint8Array[]) => Buffer.concat(parts.flatMap((part) => [u32(part.length), part]));
const sha = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest();

describe('identity', () => {
  test('every field changes it', () => {
    const seen = new Set([prefixIdOf(Buffer.from(identity).toString('latin1'))]);
    for (const name of Object.keys(fields)) {
      const other = identityOf({ ...fields, [name]: name === 'numericVersion' ? 2 : 'other' });
      seen.add(Buffer.from(other as Uint8Array).toString('hex'));
    }
    expect(seen.size).toBe(8);
  });

  test('is the same whatever the order of its fields', () => {
    const reversed = Object.fromEntries(Object.entries(fields).reverse()) as unknown as IdentityFields;
    expect(identityOf(reversed)).toEqual(identity);
  });

  test('a value that moves to another field changes it', () => {
    expect(identityOf({ ...fields, weights: 't', tokenizer: 'w' })).not.toEqual(identity);
  });

  test('one unknown field and there is none, by name', () => {
    expect(identityOf({ ...fields, weights: null, layout: '' })).toEqual({ unknown: ['layout', 'weights'] });
  });
});

describe('the chain', () => {
  test('is the written definition', () => {
    const hasher = new ChainHasher(identity, secret, 'acme');
    const scopeKey = Buffer.from(
      hkdfSync('sha256', secret, Buffer.alloc(0), framed(Buffer.from('acme'), Buffer.from('team')), 32),
    );
    const root = sha(framed(Buffer.from('nandu-kv1'), identity, scopeKey));
    expect(hasher.scopeOf('team').root).toBe(root.toString('latin1'));
    const prompt = tokens(300);
    const first = sha(root, Buffer.from(prompt.buffer, 0, 512));
    const second = sha(first, Buffer.from(prompt.buffer, 512, 512));
    expect(chainOf(prompt, root.toString('latin1'))).toEqual([first.toString('latin1'), second.toString('latin1')]);
  });

  test('tags are 16 bytes, prefix ids go there and back', () => {
    const hasher = new ChainHasher(identity, secret, '');
    const { root, scopeTag } = hasher.scopeOf('');
    expect([hasher.identityTag.length, scopeTag.length, bytesOf(root).length]).toEqual([16, 16, 32]);
    expect(keyOfPrefixId(prefixIdOf(root))).toBe(root);
    expect(keyOfPrefixId(prefixIdOf(root).toUpperCase())).toBe(root);
    expect(keyOfPrefixId('12')).toBeNull();
    expect(keyOfPrefixId(`${'0'.repeat(63)}g`)).toBeNull();
  });

  test('a scope longer than any info that node takes, and more scopes than are remembered', () => {
    const hasher = new ChainHasher(identity, secret, 'x'.repeat(5000));
    const first = hasher.scopeOf('y'.repeat(5000)).root;
    for (let i = 0; i < 1100; i++) hasher.scopeOf(String(i));
    expect(hasher.scopeOf('y'.repeat(5000)).root).toBe(first);
    expect(hasher.scopeOf('y'.repeat(4999)).root).not.toBe(first);
  });

  test('hashes a block only when it is one', () => {
    expect(() => extend('', tokens(128))).toThrow(RangeError);
    expect(() => extend('0'.repeat(32), tokens(127))).toThrow(RangeError);
    expect(chainOf(tokens(127), '0'.repeat(32))).toEqual([]);
  });

  const name = fc.string({ unit: fc.constantFrom('a', 'b', '\u0000', '\u0001', 'é', ':'), maxLength: 6 });

  test('no two pairs of tenant and scope share a root or a tag', () => {
    fc.assert(
      fc.property(name, name, name, name, (tenant, scope, otherTenant, otherScope) => {
        fc.pre(tenant !== otherTenant || scope !== otherScope);
        const one = new ChainHasher(identity, secret, tenant).scopeOf(scope);
        const other = new ChainHasher(identity, secret, otherTenant).scopeOf(otherScope);
        expect(one.root).not.toBe(other.root);
        expect(one.scopeTag).not.toBe(other.scopeTag);
      }),
    );
    // The classic: bytes move over the border between two fields.
    for (const [a, b] of [
      [new ChainHasher(identity, secret, 'ab').scopeOf('c'), new ChainHasher(identity, secret, 'a').scopeOf('bc')],
      [new ChainHasher(identity, secret, '').scopeOf('abc'), new ChainHasher(identity, secret, 'abc').scopeOf('')],
    ] as const)
      expect(a.root).not.toBe(b.root);
  });

  test('no two pairs of identity and scope share a root; the plain chain is nobody’s', () => {
    const bytes = fc.uint8Array({ minLength: 0, maxLength: 40 });
    fc.assert(
      fc.property(bytes, name, bytes, name, (one, scope, other, otherScope) => {
        fc.pre(Buffer.compare(one, other) !== 0 || scope !== otherScope);
        const hasher = new ChainHasher(one, secret, 't');
        const root = hasher.scopeOf(scope).root;
        expect(root).not.toBe(new ChainHasher(other, secret, 't').scopeOf(otherScope).root);
        expect(root).not.toBe(hasher.plainRoot);
      }),
    );
  });

  test('another secret shares nothing', () => {
    const mine = new ChainHasher(identity, secret, 't');
    const theirs = new ChainHasher(identity, new Uint8Array(32).fill(8), 't');
    expect(mine.scopeOf('').root).not.toBe(theirs.scopeOf('').root);
    expect(mine.scopeOf('').scopeTag).not.toBe(theirs.scopeOf('').scopeTag);
    expect(mine.plainRoot).not.toBe(theirs.plainRoot);
  });

  test('of a longer prompt begins with that of a shorter one; one token changes all that follows and nothing before', () => {
    const root = new ChainHasher(identity, secret, '').scopeOf('').root;
    fc.assert(
      fc.property(
        fc.array(fc.nat(0xffffffff), { minLength: 1, maxLength: 700 }),
        fc.array(fc.nat(5), { maxLength: 300 }),
        fc.nat(),
        fc.nat(0xfffffffe),
        (prefix, more, where, delta) => {
          const prompt = Uint32Array.from([...prefix, ...more]);
          const chain = chainOf(prompt, root);
          const short = chainOf(Uint32Array.from(prefix), root);
          expect(chain.slice(0, short.length)).toEqual(short);
          const at = where % prompt.length;
          const changed = prompt.slice();
          changed[at] = (changed[at] as number) + 1 + delta;
          const block = Math.floor(at / BLOCK_TOKENS);
          chainOf(changed, root).forEach((hash, i) => {
            expect(hash === chain[i]).toBe(i < block);
          });
        },
      ),
      { numRuns: 60 },
    );
  });
});
