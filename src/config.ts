// Settings of the server: each once, with its flag, its environment variable, its default and the reason for it. A flag
// goes before the environment, that before the default. Nobody else reads NANDU_* but the kernels (NANDU_TARGET).

import { ConfigurationError } from './base/configuration-error.js';
import { defaultKvFolder } from './base/kv-folder.js';
import { LOG_FORMATS, LOG_LEVELS } from './base/log.js';
import { bytesOf } from './base/size.js';

/** Working buffers of steps and samplers, outside the KV budget that --memory-limit leaves. */
export const BUFFER_BYTES = 256 * 2 ** 20;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** What a person wrote, as code wants it; throws Refusal. */
type Parse<T> = (written: string) => T;

/** What is wrong with a value: the end of a sentence that begins with it. */
class Refusal extends Error {}

const text: Parse<string> = (written) => {
  if (written !== '') return written;
  throw new Refusal('must not be empty');
};

function whole(least: number, most: number): Parse<number> {
  return (written) => {
    const value = Number(written);
    if (/^\d+$/.test(written) && value >= least && value <= most) return value;
    throw new Refusal(`must be a whole number from ${least} to ${most}`);
  };
}

function oneOf<const Name extends string>(names: readonly Name[]): Parse<Name> {
  const all = names.length > 2 ? `${names.slice(0, -1).join(', ')} or ${names.at(-1)}` : names.join(' or ');
  return (written) => {
    const found = names.find((name) => name === written);
    if (found !== undefined) return found;
    throw new Refusal(`must be ${all}`);
  };
}

const bytes: Parse<number> = (written) => {
  const value = bytesOf(written);
  if (value !== null) return value;
  throw new Refusal('must be a size such as 512MiB or 1TB');
};

const memoryLimit: Parse<number> = (written) => {
  const value = bytes(written);
  if (value === 0 || value > BUFFER_BYTES) return value;
  throw new Refusal(`leaves nothing for KV rows: give more than ${BUFFER_BYTES} bytes`);
};

/** "30s", "1.5m", "0". */
const durationMs: Parse<number> = (written) => {
  const match = /^(\d+(?:\.\d+)?) ?(ms|s|m|h)$/.exec(written === '0' ? '0s' : written);
  if (match) return Number(match[1]) * (UNIT_MS[match[2] as string] as number);
  throw new Refusal('must be a time such as 30s, 500ms or 2m');
};

const onOff: Parse<boolean> = (written) => oneOf(['on', 'off'])(written) === 'on';

const listenAddress: Parse<string> = (written) => {
  const port = /^(?:\[[\da-fA-F:.]+\]|[^:\s/[\]]+):(\d{1,5})$/.exec(written)?.[1];
  if (port !== undefined && Number(port) <= 65_535) return written;
  const path = socketPathOf(written);
  if (path === null) throw new Refusal('must be host:port, [v6 address]:port or unix:path');
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES) return written;
  throw new Refusal(`is too long: the path of a socket has at most ${SOCKET_PATH_BYTES} bytes`);
};

/** Of sockaddr_un, less the byte that ends it: what is longer is cut without a word, and the socket has another name. */
const SOCKET_PATH_BYTES = 107;

/** Path of `unix:path` and `unix:///path`, as gRPC reads them; null for any other address. */
export function socketPathOf(listen: string): string | null {
  const [, authority, path] = /^unix:(?:\/\/([^/]*)\/)?(.+)$/.exec(listen) ?? [];
  if (path === undefined) return null;
  return authority === '' ? `/${path}` : path;
}

const NONE = 'none';
/** A path, or nothing at all: '' in code. */
const pathOrNone: Parse<string> = (written) => (written === NONE ? '' : text(written));

/** Probability for one operation, or a count; `delay-ms` takes both. */
const FAULT_VALUES: Readonly<Record<string, RegExp>> = {
  seed: /^\d{1,15}$/,
  ...Object.fromEntries(
    [
      ...['read-error', 'write-error', 'sync-error', 'short', 'flip', 'lost', 'misdirect', 'torn'],
      ...['stale', 'reorder', 'hang'],
    ].map((key) => [key, /^(?:0(?:\.\d+)?|1)$/]),
  ),
  'delay-ms': /^\d{1,6}:(?:0(?:\.\d+)?|1)$/,
  'full-after': /^\d{1,15}$/,
  'crash-after': /^\d{1,15}$/,
};

/** "seed=7,flip=0.001,delay-ms=5:0.1": checked here, so that a wrong one is named; native reads it. */
const faultSpec: Parse<string> = (written) => {
  for (const part of written.split(',')) {
    const [, key = '', amount = ''] = /^([^=]*)=?(.*)$/.exec(part) ?? [];
    const known = Object.hasOwn(FAULT_VALUES, key) ? FAULT_VALUES[key] : undefined;
    if (known?.test(amount)) continue;
    const keys = Object.keys(FAULT_VALUES).join(', ');
    throw new Refusal(
      known
        ? `has a wrong value in "${part}": a probability from 0 to 1, a count, or for delay-ms both as 5:0.1`
        : `has an unknown key in "${part}"; known are ${keys}`,
    );
  }
  return written;
};

interface Setting {
  readonly parse: Parse<unknown>;
  /** As a person writes it; null: none. */
  readonly unset: string | null;
  /** For --help: what it is, and in brackets the name of its value. */
  readonly help: readonly [value: string, description: string];
}

/** By the name that code uses; the flag is its kebab-case, the variable NANDU_ and its upper snake case. */
export const SETTINGS = {
  model: {
    parse: text,
    unset: null,
    help: ['file', 'GGUF file, the first one if it is split (default: the embedded model)'],
  },
  listen: {
    parse: listenAddress,
    unset: '127.0.0.1:50051', // the port that gRPC examples and tools use
    help: ['host:port', 'where to listen; port 0 takes a free one and logs it'],
  },
  threads: {
    parse: whole(0, 1024),
    unset: '0',
    help: ['n', 'worker threads; 0: one for each physical core that this process may use'],
  },
  numerics: {
    parse: oneOf(['reference', 'f32']),
    unset: 'reference',
    help: ['mode', 'how KV rows are kept: reference (as DeepSeek-V4 serves) or f32 (for parity)'],
  },
  context: {
    parse: whole(0, 2 ** 31 - 1),
    unset: '0',
    help: ['n', "prompt and output together; 0: the model's, at most what memory allows"],
  },
  maxRunning: {
    parse: whole(1, 1024),
    unset: '16',
    help: ['n', 'requests that compute at once'],
  },
  maxWaiting: {
    parse: whole(0, 1_000_000),
    unset: '256', // at a second each behind 16 that run, the last one waits for 16 s: longer is better refused
    help: ['n', 'requests of a priority and those above it that may wait; the next one is refused with QUEUE_FULL'],
  },
  defaultMaxTokens: {
    parse: whole(0, 2 ** 31 - 1),
    unset: '1024',
    help: ['n', 'most tokens of an answer whose request does not say'],
  },
  drainTimeout: {
    parse: durationMs,
    unset: '30s', // what Kubernetes and systemd grant is 30 s to 90 s
    help: ['time', 'after SIGTERM: how long running requests may go on'],
  },
  memoryLimit: {
    parse: memoryLimit,
    unset: '0',
    help: ['size', 'memory for KV rows and buffers, beside the mapped model file; 0: half of what is free'],
  },
  kvDir: {
    parse: pathOrNone,
    unset: null, // so that a restart hits
    help: ['dir', `where the cache lives; none: no disk (default: nandu/kv in XDG_CACHE_HOME or ~/.cache)`],
  },
  kvMaxBytes: {
    parse: bytes,
    unset: '0', // nobody asked for it: it must not fill a disk that others need
    help: [
      'size',
      'quota of everything in --kv-dir; 0: a tenth of what is free there, at most 64GiB, or what it takes already',
    ],
  },
  kvMemory: {
    parse: bytes,
    unset: null,
    help: [
      'size',
      'of the KV budget, half of it at most, for prefixes that no request uses now; 0: none (default: a quarter)',
    ],
  },
  kvPoints: {
    parse: oneOf(['full', 'periodic', 'ends', 'replay']),
    unset: 'periodic', // 98.7 % of the hits that `full` has, for a thirtieth of its points (docs/kv-store.md)
    help: ['mode', 'where prefixes can be continued: full (every 128 tokens), periodic (4,096), ends, replay'],
  },
  kvWriteBudget: {
    parse: bytes,
    unset: '0', // 1,000 prompt tokens a second are 0.3 drive writes a day of 1 TB: endurance is rarely the limit
    help: ['size', 'bytes that the cache may write in a day; 0: no limit'],
  },
  io: {
    parse: oneOf(['auto', 'uring', 'pool', 'mmap']),
    unset: 'auto',
    help: ['engine', "how the cache's disk is read and written: uring, pool or mmap; auto: the first that works here"],
  },
  kvFault: {
    parse: faultSpec,
    unset: null,
    help: ['spec', 'rehearse a failing disk, such as seed=1,read-error=0.01,flip=0.001,delay-ms=5:0.1'],
  },
  prices: {
    parse: text,
    unset: null,
    help: ['file', 'YAML price list, none for no cost (default: CNY 0.025 hit, 3 miss, 6 output a million tokens)'],
  },
  logLevel: {
    parse: oneOf(LOG_LEVELS),
    unset: 'info',
    help: ['level', LOG_LEVELS.join(', ')],
  },
  logFormat: {
    parse: oneOf(LOG_FORMATS),
    unset: 'json',
    help: ['format', 'json, one object a line, or pretty for people'],
  },
  reflection: {
    parse: onOff,
    unset: 'on',
    help: ['on|off', 'whether grpcurl, ghz and the like may ask what this server offers'],
  },
} as const satisfies Record<string, Setting>;

export type SettingName = keyof typeof SETTINGS;

type Values = { readonly [Name in SettingName]: ReturnType<(typeof SETTINGS)[Name]['parse']> };
/** All that code sees. */
export interface Config extends Omit<Values, 'model' | 'kvDir' | 'kvMemory' | 'kvFault' | 'prices'> {
  /** null: the embedded model. */
  readonly model: string | null;
  /** '': no disk. */
  readonly kvDir: string;
  /** null: a quarter of the KV budget. */
  readonly kvMemory: number | null;
  /** null: the disk is as it is. */
  readonly kvFault: string | null;
  /** null: the default list; 'none': no prices. */
  readonly prices: string | null;
  /** What is in force, by flag name and as a person wrote it, for GetServerInfo. */
  readonly shown: Readonly<Record<string, string>>;
}

export function flagOf(name: SettingName): string {
  return `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

export function variableOf(name: SettingName): string {
  return `NANDU_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

/** Throws ConfigurationError that names the first wrong value. An empty variable counts as not set. */
export function readConfig(
  flags: Readonly<Partial<Record<SettingName, string>>>,
  environment: Readonly<Record<string, string | undefined>>,
): Config {
  const values: Record<string, unknown> = {};
  const shown: Record<string, string> = {};
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const { parse, unset }: Setting = SETTINGS[name];
    const variable = environment[variableOf(name)];
    const written = flags[name] ?? (variable || unset);
    shown[flagOf(name).slice(2)] = written ?? '';
    if (written === null) {
      values[name] = null;
      continue;
    }
    try {
      values[name] = parse(written);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      const source = flags[name] === undefined ? 'environment' : 'flag';
      const who = source === 'flag' ? flagOf(name) : variableOf(name);
      throw new ConfigurationError(`${who}: "${written}" ${error.message}`, source);
    }
  }
  if (values.kvDir === null) {
    values.kvDir = defaultKvFolder(environment);
    shown['kv-dir'] = values.kvDir as string;
  }
  return { ...values, shown } as unknown as Config;
}
