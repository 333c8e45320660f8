// The generated layout against its headers, and the generator against headers that it must not guess about.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
// @ts-expect-error: a plain script without types
import { generate } from '../../../tools/gen-layout.mjs';

const header = ['engine', 'store']
  .map((name) => readFileSync(new URL(`../../../native/abi/${name}.h`, import.meta.url), 'utf8'))
  .join('\n');

test('src/addon/layout.ts is what the header says', () => {
  const layout = readFileSync(new URL('../../../src/addon/layout.ts', import.meta.url), 'utf8');
  expect(layout).toBe(generate(header));
});

test('every struct, enum and constant of the header is in the layout', () => {
  const layout = generate(header) as string;
  const names = [...header.matchAll(/^(?:struct|enum) (\w+)/gm)].map((match) => match[1]);
  expect(names.length).toBeGreaterThan(10);
  for (const name of names) expect(layout).toContain(`export const ${name} = {`);
  expect(layout).toContain('export const PLAN_MAGIC = 0x4e4c504e;');
});

test('hidden padding, a wrong size and an unknown type are errors', () => {
  expect(() => generate('struct A { uint32_t x; uint64_t y; };')).toThrow('A.y is not aligned: hidden padding');
  expect(() => generate('struct A { uint64_t y; uint32_t x; };')).toThrow('A has hidden padding at its end');
  expect(() => generate('struct A { uint32_t x; }; static_assert(sizeof(A) == 8);')).toThrow('A has 4 bytes here');
  expect(() => generate('struct A { size_t x; };')).toThrow('A.x has the unknown type size_t');
});
