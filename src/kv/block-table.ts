// Which segment holds a block, by the block's chain hash: an open-addressed table of plain integers, because a disk of
// 1 TB has two million blocks and a Map of strings would take ten times the memory. It keeps 32 bits of each hash and
// the owner's number; whoever asks compares the whole hash with what the owner holds. A hash is given as 32 characters
// of `hashes` from `at` on, so that nobody has to cut a segment's hashes into pieces.

/** Beyond this share of used places the table doubles: probes stay around two places long. */
const MAX_LOAD = 0.7;
const FIRST_PLACES = 1024;

export class BlockTable {
  /** Two words a place, side by side for the sake of the cache: owner + 1 (0: free), and the hash's first 32 bits. */
  #words = new Uint32Array(FIRST_PLACES * 2);
  #used = 0;

  add(hashes: string, at: number, owner: number): void {
    if ((this.#used + 1) * 2 > this.#words.length * MAX_LOAD) this.#double();
    place(this.#words, owner + 1, printOf(hashes, at));
    this.#used++;
  }

  /** The block must have been added with this owner. */
  remove(hashes: string, at: number, owner: number): void {
    const words = this.#words;
    const mask = words.length - 2;
    const print = printOf(hashes, at);
    let gap = (print << 1) & mask;
    while (words[gap] !== owner + 1 || words[gap + 1] !== print) {
      if (words[gap] === 0) throw new Error('a block is removed that was never added');
      gap = (gap + 2) & mask;
    }
    // What follows without a break moves up into the gap unless its first place lies behind it: then a free place
    // always ends a search, and nothing has to be marked as deleted.
    for (let next = (gap + 2) & mask; words[next] !== 0; next = (next + 2) & mask) {
      const home = ((words[next + 1] as number) << 1) & mask;
      if (((next - home) & mask) < ((next - gap) & mask)) continue;
      words[gap] = words[next] as number;
      words[gap + 1] = words[next + 1] as number;
      gap = next;
    }
    words[gap] = 0;
    this.#used--;
  }

  /** Calls `visit` with every owner that may hold the block until it says true; returns whether it did. */
  some(hashes: string, at: number, visit: (owner: number) => boolean): boolean {
    const words = this.#words;
    const mask = words.length - 2;
    const print = printOf(hashes, at);
    for (let here = (print << 1) & mask; words[here] !== 0; here = (here + 2) & mask)
      if (words[here + 1] === print && visit((words[here] as number) - 1)) return true;
    return false;
  }

  get size(): number {
    return this.#used;
  }

  #double(): void {
    const old = this.#words;
    this.#words = new Uint32Array(old.length * 2);
    for (let here = 0; here < old.length; here += 2)
      if (old[here] !== 0) place(this.#words, old[here] as number, old[here + 1] as number);
  }
}

function place(words: Uint32Array, ownerPlusOne: number, print: number): void {
  const mask = words.length - 2;
  let here = (print << 1) & mask;
  while (words[here] !== 0) here = (here + 2) & mask;
  words[here] = ownerPlusOne;
  words[here + 1] = print;
}

/** The hash is a SHA-256 under a secret, so its first bytes are as good as any hash of it and cannot be aimed at. */
function printOf(hashes: string, at: number): number {
  const high = (hashes.charCodeAt(at + 3) << 24) | (hashes.charCodeAt(at + 2) << 16);
  return (high | (hashes.charCodeAt(at + 1) << 8) | hashes.charCodeAt(at)) >>> 0;
}
