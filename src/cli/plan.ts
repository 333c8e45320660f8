// nandu plan: what a model's KV takes on this machine or another, and what a cached prompt is worth. Arithmetic: capacity.ts.

import { totalmem } from 'node:os';
import { type Command, Option } from 'commander';
import { loadAddon } from '../addon/load.js';
import { defaultKvFolder } from '../base/kv-folder.js';
import { amountText, costOf, DEFAULT_PRICES, type PriceList } from '../base/prices.js';
import { readConfig } from '../config.js';
import { measureDisk, measureMemory } from './bandwidth.js';
import {
  type Capacity,
  capacityOf,
  type KvGeometry,
  type Machine,
  OUR_ROWS,
  PRESETS,
  PUBLISHED_ROWS,
  type RowBytes,
} from './capacity.js';
import { bytes, count, figure, table, toJson, UsageError } from './format.js';
import { nearestExisting, quotaFor } from './kv-directory.js';
import { bandwidth, integer, size } from './options.js';

interface PlanFlags {
  readonly model?: string;
  readonly preset?: keyof typeof PRESETS;
  readonly context?: number;
  readonly ram?: number;
  readonly ssd?: number;
  readonly diskBandwidth?: number;
  readonly memoryBandwidth?: number;
  readonly prices?: string;
  readonly json?: true;
}

export function registerPlan(program: Command): void {
  program
    .command('plan')
    .summary('what the KV of a model takes, and what a cached prompt is worth')
    .description(
      'Predicts bytes of KV a token, what memory and a disk hold, how long a prefix takes to come back, and what hits and misses cost.',
    )
    .option('-m, --model <file>', 'GGUF file, the first one if it is split')
    .addOption(new Option('--preset <name>', 'a model without its file').choices(Object.keys(PRESETS)))
    .option('--context <n>', "tokens of a prompt (default: the model's context)", integer(1, 2 ** 31 - 1))
    .option('--ram <size>', "memory for weights and KV, such as 64GiB (default: this machine's)", size)
    .option('--ssd <size>', 'disk for the cache, such as 1TB (default: what nandu serve would take here)', size)
    .option('--disk-bandwidth <size>', 'read from disk in a second, such as 3GB (default: measured here)', bandwidth)
    .option(
      '--memory-bandwidth <size>',
      'read and written in a second, such as 80GB (default: measured here)',
      bandwidth,
    )
    .option('--prices <file>', 'YAML price list (default: CNY 0.025 hit, 3 miss, 6 output a million tokens)')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  nandu plan --preset V4-Flash --context 131072 --ram 256GiB --ssd 1TB
  nandu plan --model v4.gguf --disk-bandwidth 3GB --memory-bandwidth 200GB --json`,
    )
    .action(plan);
}

async function plan(flags: PlanFlags): Promise<void> {
  if ((flags.model === undefined) === (flags.preset === undefined)) {
    throw new UsageError('give either --model or --preset');
  }
  const prices = flags.prices === undefined ? DEFAULT_PRICES : await readPrices(flags.prices);
  const { geometry, rows } = flags.preset
    ? { geometry: PRESETS[flags.preset], rows: OUR_ROWS }
    : await read(flags.model as string);
  const context = flags.context ?? geometry.context;
  const machine = await machineOf(flags);
  const capacity = capacityOf(geometry, context, machine, rows);
  const report: Report = { geometry, rows, context, machine, capacity, prices };
  console.log(flags.json ? toJson(jsonOf(report)) : describe(report));
}

interface Report {
  readonly geometry: KvGeometry;
  readonly rows: RowBytes;
  readonly context: number;
  readonly machine: Machine;
  readonly capacity: Capacity;
  readonly prices: PriceList;
}

/** YAML is read by whoever names a file, and only then. */
async function readPrices(path: string): Promise<PriceList> {
  const { readPriceList } = await import('../base/price-list.js');
  return readPriceList(path);
}

async function read(model: string): Promise<{ geometry: KvGeometry; rows: RowBytes }> {
  const { name, geometry, layers, kv, weight_bytes: weightBytes } = await loadAddon().inspect(model, { verify: false });
  const { window = 0, head_dim: headDim = 0, index_dim: indexDim = 0, context } = geometry;
  const { main_row_bytes: main, index_row_bytes: index } = kv.reference;
  return { geometry: { name, ...layers, window, headDim, indexDim, context, weightBytes }, rows: { main, index } };
}

async function machineOf({ ram, ssd, diskBandwidth, memoryBandwidth }: PlanFlags): Promise<Machine> {
  const { kvDir, kvMaxBytes } = readConfig({}, process.env);
  const directory = kvDir || defaultKvFolder(process.env);
  return {
    ramBytes: ram ?? totalmem(),
    ssdBytes: ssd ?? quotaFor(directory, kvMaxBytes),
    // One after the other: each has the machine for itself.
    diskBandwidth: diskBandwidth ?? (await measureDisk(nearestExisting(directory))),
    memoryBandwidth: memoryBandwidth ?? (await measureMemory()),
  };
}

interface ClassCost {
  readonly class: string;
  readonly hit: bigint | null;
  readonly miss: bigint | null;
}

/** Of a prompt of `tokens`, all of it a hit or all of it a miss. */
function costsOf(tokens: number, { classes }: PriceList): ClassCost[] {
  return classes.map((price) => ({
    class: price.name,
    hit: costOf({ hitTokens: tokens, missTokens: 0, outputTokens: 0 }, price),
    miss: costOf({ hitTokens: 0, missTokens: tokens, outputTokens: 0 }, price),
  }));
}

/** Only for these is there a published figure. */
const isPreset = ({ name }: KvGeometry): boolean => Object.hasOwn(PRESETS, name);

const gigabytes = (value: number): string => `${(value / 1e9).toFixed(value < 1e10 ? 3 : 1)} GB`;
const seconds = (value: number): string => (value < 1 ? `${figure(value * 1000)} ms` : `${figure(value)} s`);

function describe({ geometry, rows, context, machine, capacity, prices }: Report): string {
  const { perToken, disk, pointBytes } = capacity;
  const { plain, csa, hca } = geometry;
  const layout = ({ main, index }: RowBytes): string =>
    `${csa} x (${main} + ${index}) / 4 + ${hca} x ${main} / 128 bytes a token`;
  const rowsOf = (list: readonly (readonly string[])[]): string =>
    table(list.map(([name = '', ...cells]) => [`  ${name}`, ...cells]));
  const saved = capacity.restoreSeconds > 0 ? capacity.computeSecondsMin / capacity.restoreSeconds : 0;
  const costRows = costsOf(context, prices).map(({ class: name, hit, miss }) => [
    name,
    `hit ${hit === null ? 'too much' : amountText(hit)}`,
    `miss ${miss === null ? 'too much' : amountText(miss)}`,
    prices.currency,
  ]);
  return [
    `${geometry.name}, ${count(context)} tokens`,
    '\nKV of a token',
    rowsOf([
      ['CSA', `${csa} layers`, `${figure(perToken.csa)} B`],
      ['HCA', `${hca} layers`, `${figure(perToken.hca)} B`],
      ['plain', `${plain} layers`, 'its window only'],
      ['together', `${plain + csa + hca} layers`, `${perToken.total} B`],
    ]),
    '\n1,000,000 tokens',
    rowsOf([
      ['as stored here', gigabytes(capacity.millionBytes), layout(rows)],
      ...(isPreset(geometry)
        ? [
            [
              'as published',
              gigabytes(capacity.publishedMillionBytes),
              `${layout(PUBLISHED_ROWS)}: 8-bit indexer rows without scales`,
            ],
          ]
        : []),
    ]),
    `\nrecords of ${count(context)} tokens on disk`,
    rowsOf([
      ['rows', bytes(disk.segments), `${count(disk.numSegments)} segments`],
      ['points', bytes(disk.points), `${count(disk.numPoints)} of ${count(pointBytes)} B`],
      ['headers, padding', bytes(disk.padding)],
      ['together', bytes(disk.total), `${figure(context > 0 ? disk.total / context : 0)} B a token`],
    ]),
    '\nthis holds',
    rowsOf([
      ['disk', bytes(machine.ssdBytes), `${count(capacity.ssdTokens)} tokens`],
      [
        'memory',
        bytes(machine.ramBytes),
        `${count(capacity.ramTokens)} tokens beside ${bytes(geometry.weightBytes)} of weights`,
      ],
    ]),
    '\ntime',
    rowsOf([
      [
        'restored',
        seconds(capacity.restoreSeconds),
        `${bytes(capacity.restoreBytes)} at ${gigabytes(machine.diskBandwidth)}/s from disk, ${gigabytes(machine.memoryBandwidth)}/s in memory`,
      ],
      [
        'computed',
        `${seconds(capacity.computeSecondsMin)} at least`,
        'all weights once for each 512 tokens; arithmetic comes on top',
      ],
      ['a hit is', `${figure(Math.round(saved))} times faster`],
    ]),
    `\ncost by "${prices.name}"`,
    rowsOf(costRows),
  ].join('\n');
}

function jsonOf({ geometry, context, machine, capacity, prices }: Report): object {
  const { perToken, disk } = capacity;
  return {
    model: geometry.name,
    context_tokens: context,
    layers: { plain: geometry.plain, csa: geometry.csa, hca: geometry.hca },
    bytes_per_token: { csa: perToken.csa, hca: perToken.hca, total: perToken.total },
    bytes_per_million_tokens: capacity.millionBytes,
    ...(isPreset(geometry) && { published_bytes_per_million_tokens: capacity.publishedMillionBytes }),
    point_bytes: capacity.pointBytes,
    disk: {
      segment_bytes: disk.segments,
      point_bytes: disk.points,
      padding_bytes: disk.padding,
      total_bytes: disk.total,
      segments: disk.numSegments,
      points: disk.numPoints,
    },
    ram_bytes: machine.ramBytes,
    ssd_bytes: machine.ssdBytes,
    disk_bytes_per_second: machine.diskBandwidth,
    memory_bytes_per_second: machine.memoryBandwidth,
    ram_tokens: capacity.ramTokens,
    ssd_tokens: capacity.ssdTokens,
    restore_bytes: capacity.restoreBytes,
    restore_seconds: capacity.restoreSeconds,
    compute_seconds_min: capacity.computeSecondsMin,
    price_list: prices.name,
    currency: prices.currency,
    costs: costsOf(context, prices).map(({ class: name, hit, miss }) => ({
      class: name,
      hit_picos: hit === null ? null : String(hit),
      miss_picos: miss === null ? null : String(miss),
    })),
  };
}
