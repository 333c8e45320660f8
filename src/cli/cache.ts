// nandu cache: looks at, checks and empties a cache directory that no server uses. A running server has the same facts over
// gRPC (GetCacheStats, PurgeCache); its directory is refused with its pid.

import { type Command, Option } from 'commander';
import { readConfig } from '../config.js';
import type { HashKey, KvStore, RecordInfo, StoreEvent, StoreStatus } from '../kv/store.js';
import { bytes, count, Progress, StorageError, table, toJson, UsageError } from './format.js';
import { duration, integer } from './options.js';

/**
 * Rejects with UnavailableError, naming the owner's pid, when another process has the directory, and with StorageError when it
 * is not there or not a cache. What opens it must keep the process alive until close().
 */
export type OpenKvStore = (directory: string, isReadOnly: boolean) => Promise<KvStore>;

interface CacheFlags {
  readonly kvDir?: string;
  readonly json?: true;
}

interface PurgeFlags extends CacheFlags {
  readonly all?: true;
  readonly prefix?: string;
  readonly olderThan?: number;
  readonly dryRun?: true;
}

/** Reads of a whole record that are under way at once: keeps a disk busy, and memory at a few segments. */
const VERIFIES_AT_ONCE = 4;
const LIST_MAX = 50;

export function registerCache(program: Command, open: OpenKvStore): void {
  const cache = program
    .command('cache')
    .summary('look at, check and empty a cache directory')
    .description(
      'Works on the directory of a server that does not run; a running one answers GetCacheStats and PurgeCache.',
    )
    .addHelpText(
      'after',
      `
Examples:
  nandu cache stats
  nandu cache ls --kv-dir /mnt/nvme/nandu --limit 20
  nandu cache verify
  nandu cache purge --prefix 3f9c…
  nandu cache purge --older-than 30d --dry-run`,
    );
  const add = (name: string, summary: string): Command =>
    cache
      .command(name)
      .summary(summary)
      .description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`)
      .addOption(
        new Option(
          '--kv-dir <dir>',
          'as of nandu serve, NANDU_KV_DIR too (default: nandu/kv in XDG_CACHE_HOME or ~/.cache)',
        ),
      )
      .option('--json', 'print JSON');
  add('stats', 'what the directory holds').action((flags: CacheFlags) => stats(flags, open));
  add('ls', 'the stored records, newest first')
    .option('--limit <n>', 'at most so many; 0: all', integer(0, Number.MAX_SAFE_INTEGER), LIST_MAX)
    .action((flags: CacheFlags & { limit: number }) => list(flags, open));
  add('verify', 'read everything and check every checksum').action((flags: CacheFlags) => verify(flags, open));
  add('purge', 'delete for good: give one selector or more, what all of them select goes')
    .option('--all', 'everything')
    .option('--prefix <id>', 'this prefix_id and what extends it; records go whole, with up to 4,095 tokens before it')
    .option('--older-than <time>', 'what was written longer ago, such as 12h or 30d', duration)
    .option('--dry-run', 'say what would go, and delete nothing')
    .action((flags: PurgeFlags) => purge(flags, open));
}

async function stats(flags: CacheFlags, open: OpenKvStore): Promise<void> {
  await withDirectory(flags, open, true, async (directory) => {
    const { store, damaged } = directory;
    const records = [...directory.records.values()];
    const points = records.filter(({ kind }) => kind === 'point');
    const facts = store.stats();
    const numOf = (field: 'identity' | 'scope'): number => new Set(records.map((record) => record[field])).size;
    if (flags.json) {
      console.log(
        toJson({
          directory: store.directory,
          io_backend: store.backend,
          used_bytes: facts.usedBytes,
          live_bytes: facts.liveBytes,
          segments: records.length - points.length,
          points: points.length,
          stored_tokens: tokensOf(records),
          identities: numOf('identity'),
          scopes: numOf('scope'),
          region_bytes: facts.regionBytes,
          regions: {
            total: facts.regionsTotal,
            free: facts.regionsFree,
            open: facts.regionsOpen,
            sealed: facts.regionsSealed,
          },
          damaged,
        }),
      );
      return;
    }
    console.log(
      table([
        ['directory', store.directory],
        ['read by', store.remark === '' ? store.backend : `${store.backend} (${store.remark})`],
        ['takes', bytes(facts.usedBytes)],
        ['holds', bytes(facts.liveBytes)],
        ['segments', `${count(records.length - points.length)}, ${count(tokensOf(records))} tokens`],
        ['points', count(points.length)],
        ['models', count(numOf('identity'))],
        ['scopes', count(numOf('scope'))],
        [
          'regions',
          `${facts.regionsTotal} of ${bytes(facts.regionBytes)}: ${facts.regionsSealed} full, ${facts.regionsOpen} open, ${facts.regionsFree} free`,
        ],
        ['damaged', count(damaged)],
      ]),
    );
  });
}

async function list(flags: CacheFlags & { limit: number }, open: OpenKvStore): Promise<void> {
  await withDirectory(flags, open, true, async ({ records }) => {
    const newest = [...records.values()].sort((a, b) => b.createdMs - a.createdMs || b.id - a.id);
    const shown = flags.limit === 0 ? newest : newest.slice(0, flags.limit);
    if (flags.json) {
      console.log(toJson(shown.map(jsonOf)));
      return;
    }
    const rows = shown.map((record) => [
      record.kind,
      hex(record.key),
      record.kind === 'point' ? `at ${record.toToken}` : `${record.fromToken}-${record.toToken}`,
      bytes(record.storedBytes),
      new Date(record.createdMs).toISOString(),
      hex(record.identity).slice(0, 8),
      hex(record.scope).slice(0, 8),
    ]);
    console.log(table([['kind', 'prefix_id', 'tokens', 'on disk', 'written', 'model', 'scope'], ...rows]));
    if (shown.length < newest.length) console.error(`${count(newest.length - shown.length)} more; --limit 0 shows all`);
  });
}

async function verify(flags: CacheFlags, open: OpenKvStore): Promise<void> {
  await withDirectory(flags, open, true, async (directory) => {
    const records = [...directory.records.values()];
    const found = new Map<StoreStatus, number>();
    const progress = new Progress('checking', 'records');
    let next = 0;
    let done = 0;
    const check = async (): Promise<void> => {
      for (let record = records[next++]; record; record = records[next++]) {
        const status = await directory.verify(record);
        found.set(status, (found.get(status) ?? 0) + 1);
        progress.update(++done, records.length);
      }
    };
    await Promise.all(Array.from({ length: VERIFIES_AT_ONCE }, check)).finally(() => progress.end());
    const good = found.get('ok') ?? 0;
    const bad = records.length - good + directory.damaged;
    if (flags.json)
      console.log(toJson({ records: records.length, good, damaged: bad, by_status: Object.fromEntries(found) }));
    else console.log(`${count(good)} of ${count(records.length)} records are good`);
    if (bad === 0) return;
    const kinds = [...found].filter(([status]) => status !== 'ok').map(([status, number]) => `${number} ${status}`);
    if (directory.damaged > 0) kinds.push(`${directory.damaged} with a broken header`);
    throw new StorageError(
      `${directory.store.directory}: ${count(bad)} records cannot be used (${kinds.join(', ')}); a server computes them again`,
    );
  });
}

async function purge(flags: PurgeFlags, open: OpenKvStore): Promise<void> {
  const { all, prefix, olderThan, dryRun = false } = flags;
  if (!all && prefix === undefined && olderThan === undefined)
    throw new UsageError('give --all, --prefix or --older-than');
  if (all && prefix !== undefined) throw new UsageError('give either --all or --prefix');
  if (prefix !== undefined && !/^[0-9a-f]{64}$/.test(prefix))
    throw new UsageError('--prefix must be 64 hexadecimal digits');
  await withDirectory(flags, open, dryRun, async (directory) => {
    const records = [...directory.records.values()];
    const front = prefix === undefined ? records : extensionsOf(Buffer.from(prefix, 'hex').toString('latin1'), records);
    const before = olderThan === undefined ? Number.POSITIVE_INFINITY : Date.now() - olderThan;
    const doomed = front.filter(({ createdMs }) => createdMs < before);
    const freed = doomed.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
    if (!dryRun && doomed.length > 0) {
      const status = await directory.destroy(doomed);
      if (status !== 'ok') throw new StorageError(`${directory.store.directory}: the purge failed: ${status}`);
    }
    if (flags.json) console.log(toJson({ records: doomed.length, bytes: freed, dry_run: dryRun }));
    else console.log(`${count(doomed.length)} records, ${bytes(freed)}${dryRun ? ' would go' : ' deleted'}`);
  });
}

/** The records that hold blocks at `key` or behind it. */
function extensionsOf(key: HashKey, records: readonly RecordInfo[]): RecordInfo[] {
  const reached = new Set([key]);
  const found = new Set<RecordInfo>();
  // A segment begins inside its parent, so behind where that begins; points hold no blocks and come last.
  const rank = ({ kind, fromToken }: RecordInfo): number => (kind === 'segment' ? fromToken : Number.MAX_SAFE_INTEGER);
  const inOrder = [...records].sort((a, b) => rank(a) - rank(b));
  for (const record of inOrder) {
    const isBehind = reached.has(record.parent);
    const at = record.blocks.findIndex((block) => reached.has(block));
    if (!isBehind && at < 0 && !reached.has(record.key)) continue;
    found.add(record);
    for (const block of isBehind ? record.blocks : record.blocks.slice(Math.max(0, at))) reached.add(block);
    reached.add(record.key);
  }
  return [...found];
}

/** An open directory whose index is complete. */
class Directory {
  readonly records = new Map<number, RecordInfo>();
  /** Headers that could not be read. */
  damaged = 0;
  readonly #waiting = new Map<number, (status: StoreStatus) => void>();
  #lastTicket = 0;
  #onRecovered: () => void = () => {};
  readonly recovered = new Promise<void>((resolve) => {
    this.#onRecovered = resolve;
  });

  constructor(readonly store: KvStore) {
    store.onWake = () => this.#drain();
    this.#drain(); // what came before anybody listened
  }

  verify(record: RecordInfo): Promise<StoreStatus> {
    return this.#ask((ticket) => this.store.verify(ticket, record));
  }

  destroy(records: readonly RecordInfo[]): Promise<StoreStatus> {
    return this.#ask((ticket) =>
      this.store.destroy(
        ticket,
        records.map(({ id }) => id),
      ),
    );
  }

  #ask(command: (ticket: number) => void): Promise<StoreStatus> {
    const ticket = ++this.#lastTicket;
    return new Promise((resolve) => {
      this.#waiting.set(ticket, resolve);
      command(ticket);
    });
  }

  #drain(): void {
    for (const event of this.store.drain()) this.#onEvent(event);
  }

  #onEvent(event: StoreEvent): void {
    switch (event.t) {
      case 'recovered':
        this.records.set(event.record.id, event.record);
        break;
      case 'recovery-done':
        this.damaged = event.damaged;
        this.#onRecovered();
        break;
      case 'read':
      case 'destroyed':
        this.#waiting.get(event.ticket)?.(event.status);
        this.#waiting.delete(event.ticket);
        break;
      default: // what writing brings, and nothing here writes
        break;
    }
  }
}

async function withDirectory(
  flags: CacheFlags,
  open: OpenKvStore,
  isReadOnly: boolean,
  use: (directory: Directory) => Promise<void>,
): Promise<void> {
  const store = await open(directoryOf(flags), isReadOnly);
  try {
    const directory = new Directory(store);
    await directory.recovered;
    await use(directory);
  } finally {
    await store.close();
  }
}

/** As nandu serve reads it. A wrong variable of another setting matters to nobody who gives the flag. */
function directoryOf({ kvDir: flag }: CacheFlags): string {
  const { kvDir } = flag === undefined ? readConfig({}, process.env) : readConfig({ kvDir: flag }, {});
  if (kvDir !== '') return kvDir;
  const who = flag === undefined ? 'NANDU_KV_DIR' : '--kv-dir';
  throw new UsageError(`${who} is none, a cache without a directory: say which one with --kv-dir`);
}

const hex = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('hex');

function tokensOf(records: readonly RecordInfo[]): number {
  return records.reduce((sum, { fromToken, toToken }) => sum + toToken - fromToken, 0);
}

function jsonOf(record: RecordInfo): object {
  return {
    kind: record.kind,
    prefix_id: hex(record.key),
    from_token: record.fromToken,
    to_token: record.toToken,
    stored_bytes: record.storedBytes,
    payload_bytes: record.payloadBytes,
    written: new Date(record.createdMs).toISOString(),
    region: record.region,
    identity: hex(record.identity),
    scope: hex(record.scope),
  };
}
