// The last keys that were added, as many as may be.

export class BoundedSet {
  readonly #keys = new Set<string>();

  constructor(readonly limit: number) {}

  add(key: string): void {
    this.#keys.delete(key);
    // A copy: a slice of a long string would keep all of that alive.
    this.#keys.add(Buffer.from(key, 'latin1').toString('latin1'));
    if (this.#keys.size > this.limit) this.#keys.delete(this.#keys.values().next().value as string);
  }

  has(key: string): boolean {
    return this.#keys.has(key);
  }

  delete(key: string): void {
    this.#keys.delete(key);
  }
}
