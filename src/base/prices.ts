// What tokens cost: a price list in whole picos (1e-12 of the currency) a token, and exact sums over it. Nothing is rounded
// anywhere. price-list.ts reads such a list from a file.

/** Hours of the day in UTC, minutes since midnight: from `begin` to before `end`. */
export interface Hours {
  readonly begin: number;
  readonly end: number;
}

/** Picos a token. */
export interface PriceClass {
  readonly name: string;
  /** A prompt token that hits. */
  readonly hit: bigint;
  /** A prompt token that is computed. */
  readonly miss: bigint;
  /** A generated token. */
  readonly output: bigint;
  /** null: whenever no other class applies. */
  readonly hours: readonly Hours[] | null;
}

export interface PriceList {
  readonly name: string;
  /** ISO 4217. */
  readonly currency: string;
  /** For every minute of the day exactly one. */
  readonly classes: readonly PriceClass[];
}

export interface PricedTokens {
  readonly hitTokens: number;
  readonly missTokens: number;
  readonly outputTokens: number;
}

/** Tokens that a written price is for, and picos of one unit of currency. */
const TOKENS_A_PRICE = 1_000_000n;
const PICOS = 10n ** 12n;
/** A price for a million tokens may have so many decimals: the last one is a pico a token. */
export const PRICE_DECIMALS_MAX = 6;
/**
 * Of the currency for a million tokens. 100,000 times the price of today, and still every request below 92 million tokens
 * has a cost that fits the contract's 64 bits.
 */
const PRICE_MAX = 100_000n;
const INT64_MAX = 2n ** 63n - 1n;

export const MINUTES_A_DAY = 24 * 60;

/** What DeepSeek charges for V4 (api-docs.deepseek.com, pricing). */
export const DEFAULT_PRICES: PriceList = {
  name: 'default',
  currency: 'CNY',
  classes: [{ name: 'standard', hit: 25_000n, miss: 3_000_000n, output: 6_000_000n, hours: null }],
};

/** Picos a token of a price for a million tokens, written as a decimal number; a sentence when it is none, or not exact. */
export function parsePrice(text: string): bigint | string {
  const match = /^(\d{1,12})(?:\.(\d{1,32}))?$/.exec(text);
  if (!match) return 'is not a price: write a decimal number such as 0.025';
  const [, whole = '', written = ''] = match;
  const decimals = written.replace(/0+$/, '');
  if (decimals.length > PRICE_DECIMALS_MAX) {
    return `has more than ${PRICE_DECIMALS_MAX} decimals: a price for a million tokens counts in millionths, 1e-12 a token`;
  }
  const picosAMillion =
    BigInt(whole + decimals.padEnd(PRICE_DECIMALS_MAX, '0')) * (PICOS / 10n ** BigInt(PRICE_DECIMALS_MAX));
  if (picosAMillion > PRICE_MAX * PICOS) return `is above ${PRICE_MAX} for a million tokens`;
  return picosAMillion / TOKENS_A_PRICE;
}

/** The class that applies at a time (wall clock, milliseconds). */
export function priceClassAt({ classes }: PriceList, wallMs: number): PriceClass {
  const minute = Math.floor(wallMs / 60_000) % MINUTES_A_DAY;
  const timed = classes.find(({ hours }) => hours?.some(({ begin, end }) => minute >= begin && minute < end));
  const found = timed ?? classes.find(({ hours }) => hours === null);
  if (!found) throw new Error(`no price class covers minute ${minute} of the day`); // price-list.ts lets no gap through
  return found;
}

/** Exact, in picos; null when it passes the 63 bits that the contract has for it (above 92 million tokens). */
export function costOf(tokens: PricedTokens, price: PriceClass): bigint | null {
  const { hitTokens, missTokens, outputTokens } = tokens;
  const picos = BigInt(hitTokens) * price.hit + BigInt(missTokens) * price.miss + BigInt(outputTokens) * price.output;
  return picos <= INT64_MAX ? picos : null;
}

/** Picos as an amount of the currency, all digits that count. */
export function amountText(picos: bigint): string {
  const decimals = (picos % PICOS).toString().padStart(12, '0').replace(/0+$/, '');
  return decimals === '' ? String(picos / PICOS) : `${picos / PICOS}.${decimals}`;
}
