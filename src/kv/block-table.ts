// Which segment holds a block, by the block's chain hash: an open-addressed table of plain integers, because a disk of
// 1 TB has two million blocks and a Map of strings would take ten times the memory. It keeps 32 bits of each hash and
// the owner's number; whoever asks compares the whole hash with what the owner holds. A hash is given as 32 characters
// of `hashes` from `at` on, so that nobody has to cut a segment's hashes into pieces.

/** Beyond this share of used places the table doubles: probes stay around two places long. */
const MAX_LOAD = 0.7;
const FIRST_PLACES = 1024;

export class BlockTable {
  /** Owner + 1; 0: free. */
  #owners = new Uint32Array(FIRST_PLACES);
  #prints = new Uint32Array(FIRST_PLACES);
  #used = 0;

  add(hashes: string, at: number, owner: number): void {
    if (this.#used + 1 > this.#owners.length * MAX_LOAD) this.#double();
    this.#place(printOf(hashes, at), owner + 1);
    this.#used++;
  }

  /** The block must have been added with this owner. */
  remove(hashes: string, at: number, owner: number): void {
    const mask = this.#owners.length - 1;
    const print = printOf(hashes, at);
    let place = print & mask;
    while (this.#owners[place] !== owner + 1 || this.#prints[place] !== print) {
      if (this.#owners[place] === 0) throw new Error('a block is removed that was never added');
      place = (place + 1) & mask;
    }
    // What follows without a gap moves up where that brings it no further ahead than its first place, so that a free
    // place always ends a search and nothing has to be marked as deleted.
    let gap = place;
    for (let next = (gap + 1) & mask; this.#owners[next] !== 0; next = (next + 1) & mask) {
      const home = (this.#prints[next] as number) & mask;
      if (((next - home) & mask) < ((next - gap) & mask)) continue;
      this.#owners[gap] = this.#owners[next] as number;
      this.#prints[gap] = this.#prints[next] as number;
      gap = next;
    }
    this.#owners[gap] = 0;
    this.#used--;
  }

  /** Calls `visit` with every owner that may hold the block until it says true; returns whether it did. */
  some(hashes: string, at: number, visit: (owner: number) => boolean): boolean {
    const mask = this.#owners.length - 1;
    const print = printOf(hashes, at);
    for (let place = print & mask; this.#owners[place] !== 0; place = (place + 1) & mask)
      if (this.#prints[place] === print && visit((this.#owners[place] as number) - 1)) return true;
    return false;
  }

  get size(): number {
    return this.#used;
  }

  #place(print: number, ownerPlusOne: number): void {
    const mask = this.#owners.length - 1;
    let place = print & mask;
    while (this.#owners[place] !== 0) place = (place + 1) & mask;
    this.#owners[place] = ownerPlusOne;
    this.#prints[place] = print;
  }

  #double(): void {
    const owners = this.#owners;
    const prints = this.#prints;
    this.#owners = new Uint32Array(owners.length * 2);
    this.#prints = new Uint32Array(owners.length * 2);
    for (let place = 0; place < owners.length; place++)
      if (owners[place] !== 0) this.#place(prints[place] as number, owners[place] as number);
  }
}

/** The hash is a SHA-256 under a secret, so its first bytes are as good as any hash of it and cannot be aimed at. */
function printOf(hashes: string, at: number): number {
  const high = (hashes.charCodeAt(at + 3) << 24) | (hashes.charCodeAt(at + 2) << 16);
  return (high | (hashes.charCodeAt(at + 1) << 8) | hashes.charCodeAt(at)) >>> 0;
}
