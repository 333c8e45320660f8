// Sizes as people write them. Disks are sold in powers of ten, memory in powers of two.

const UNITS: Readonly<Record<string, number>> = {
  ...{ '': 1, B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12 },
  ...{ KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40 },
};

/** Bytes of "64GiB", "1.5 TB" or "4096"; null: it is no size, or too large to be counted exactly. */
export function bytesOf(written: string): number | null {
  const match = /^(\d+(?:\.\d+)?) ?([kMGT]B|[KMGT]iB|B|)$/.exec(written);
  const value = match ? Math.floor(Number(match[1]) * (UNITS[match[2] as string] as number)) : Number.NaN;
  return Number.isSafeInteger(value) ? value : null;
}
