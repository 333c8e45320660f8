// Settings: which source wins, how values are written, and what is said about wrong ones.

import { describe, expect, test } from 'vitest';
import { ConfigurationError } from '../../src/base/configuration-error.js';
import { flagOf, readConfig, SETTINGS, type SettingName, socketPathOf, variableOf } from '../../src/config.js';

function problem(
  flags: Parameters<typeof readConfig>[0],
  environment: Parameters<typeof readConfig>[1] = {},
): ConfigurationError {
  try {
    readConfig(flags, environment);
  } catch (error) {
    if (error instanceof ConfigurationError) return error;
    throw error;
  }
  throw new Error('the settings were accepted');
}

test('the defaults are those of the contract', () => {
  expect(readConfig({}, {})).toMatchObject({
    ...{
      model: null,
      listen: '127.0.0.1:50051',
      threads: 0,
      numerics: 'reference',
      context: 0,
      maxRunning: 16,
      maxWaiting: 256,
    },
    ...{
      defaultMaxTokens: 1024,
      drainTimeout: 30_000,
      memoryLimit: 0,
      logLevel: 'info',
      logFormat: 'json',
      reflection: true,
    },
    ...{
      kvMaxBytes: 0,
      kvMemory: null,
      kvPoints: 'periodic',
      kvWriteBudget: 0,
      io: 'auto',
      kvFault: null,
      prices: null,
    },
  });
});

test("the cache lives in a folder of its own in the user's cache, unless it is told where, or not to", () => {
  const home = { XDG_CACHE_HOME: '/var/cache/me' };
  expect(readConfig({}, home)).toMatchObject({
    kvDir: '/var/cache/me/nandu/kv',
    shown: { 'kv-dir': '/var/cache/me/nandu/kv' },
  });
  expect(readConfig({}, {}).kvDir).toMatch(/^\/.+\/\.cache\/nandu\/kv$/);
  expect(readConfig({}, { XDG_CACHE_HOME: 'relative' }).kvDir).toBe(readConfig({}, {}).kvDir);
  expect(readConfig({ kvDir: 'here' }, home).kvDir).toBe('here');
  expect(readConfig({ kvDir: 'none' }, home).kvDir).toBe('');
  expect(readConfig({}, { ...home, NANDU_KV_DIR: 'none' }).kvDir).toBe('');
});

test('memory of the cache may be nothing, which is not the same as not said', () => {
  expect(readConfig({ kvMemory: '0' }, {}).kvMemory).toBe(0);
  expect(readConfig({ kvMemory: '2GiB' }, {}).kvMemory).toBe(2 ** 31);
});

test('a rehearsed failure is checked word by word', () => {
  const all =
    'seed=7,read-error=0.01,write-error=1,short=0.5,flip=0.001,lost=0,misdirect=0.1,torn=0.2,delay-ms=5:0.1,full-after=1048576,crash-after=9';
  expect(readConfig({ kvFault: all }, {}).kvFault).toBe(all);
  for (const [spec, why] of [
    ['fire=1', 'unknown key in "fire=1"'],
    ['toString=1', 'unknown key in "toString=1"'],
    ['seed=1,', 'unknown key in ""'],
    ['flip', 'wrong value in "flip"'],
    ['flip=1.5', 'wrong value in "flip=1.5"'],
    ['flip=-0.1', 'wrong value in "flip=-0.1"'],
    ['seed=x', 'wrong value in "seed=x"'],
    ['delay-ms=5', 'wrong value in "delay-ms=5"'],
    ['seed=1;flip=0.1', 'wrong value in "seed=1;flip=0.1"'],
  ] as const) {
    expect(problem({ kvFault: spec }).message, spec).toContain(why);
  }
});

test('a flag goes before the environment, that before the default, and foreign variables count for nothing', () => {
  const environment = {
    NANDU_MAX_RUNNING: '4',
    NANDU_LOG_LEVEL: 'warn',
    NANDU_TARGET: 'scalar',
    NANDU_LISTEN: '',
    PATH: '/bin',
  };
  const config = readConfig({ maxRunning: '8' }, environment);
  expect(config).toMatchObject({ maxRunning: 8, logLevel: 'warn', listen: '127.0.0.1:50051' });
  expect(config.shown).toMatchObject({ 'max-running': '8', 'log-level': 'warn', 'drain-timeout': '30s', model: '' });
});

test('names of flags and variables follow from the name in code', () => {
  expect([flagOf('defaultMaxTokens'), variableOf('defaultMaxTokens')]).toEqual([
    '--default-max-tokens',
    'NANDU_DEFAULT_MAX_TOKENS',
  ]);
});

test.each([
  ['512', 512],
  ['512MiB', 512 * 2 ** 20],
  ['1.5 GiB', 1.5 * 2 ** 30],
  ['2KiB', 2048],
  ['4TB', 4e12],
])('the size %s is %d bytes', (written, bytes) => {
  expect(readConfig({ kvMaxBytes: written }, {}).kvMaxBytes).toBe(bytes);
});

test.each([
  ['0', 0],
  ['250ms', 250],
  ['1.5m', 90_000],
  ['2h', 7_200_000],
])('the time %s is %d ms', (written, ms) => {
  expect(readConfig({ drainTimeout: written }, {}).drainTimeout).toBe(ms);
});

const longest = `/run/${'n'.repeat(102)}`;

test.each([
  '127.0.0.1:0',
  '[::1]:50051',
  'localhost:65535',
  'unix:/run/nandu.sock',
  'unix:nandu.sock',
  `unix:${longest}`,
  `unix://${longest}`,
])('%s can be listened on', (listen) => {
  expect(readConfig({ listen }, {}).listen).toBe(listen);
});

test('a path that the system would cut is no address', () => {
  for (const listen of [`unix:${longest}n`, `unix://${longest}n`, `unix:${'ü'.repeat(54)}`]) {
    expect(problem({ listen }).message).toContain('at most 107 bytes');
  }
});

test('the path of a socket is what gRPC takes it for', () => {
  expect(
    ['unix:/run/x', 'unix:///run/x', 'unix:run/x', 'localhost:1', 'unix:'].map((listen) => socketPathOf(listen)),
  ).toEqual(['/run/x', '/run/x', 'run/x', null, null]);
});

describe('a wrong value names its flag, or its variable', () => {
  const cases: readonly (readonly [SettingName, string])[] = [
    ...['', 'host', 'host:', ':1', 'host:70000', 'a b:1', '::1:50051'].map((value) => ['listen', value] as const),
    ...['-1', '1.5', 'many', '1025'].map((value) => ['threads', value] as const),
    ...['0', ''].map((value) => ['maxRunning', value] as const),
    ...['30', '-1s', '1d'].map((value) => ['drainTimeout', value] as const),
    ...['1gb', '-1', 'GiB', '256MiB', '99999TiB'].map((value) => ['memoryLimit', value] as const),
    ...[
      ['numerics', 'f64'],
      ['logLevel', 'loud'],
      ['logFormat', 'xml'],
      ['reflection', 'yes'],
      ['model', ''],
      ['kvDir', ''],
    ].map((pair) => pair as unknown as [SettingName, string]),
  ];
  test.each(cases)('%s = "%s"', (name, value) => {
    const fromFlag = problem({ [name]: value });
    expect(fromFlag.source).toBe('flag');
    expect(fromFlag.message).toContain(`${flagOf(name)}: "${value}"`);
    if (value === '') return; // an empty variable is one that is not set
    const fromVariable = problem({}, { [variableOf(name)]: value });
    expect(fromVariable.source).toBe('environment');
    expect(fromVariable.message).toContain(`${variableOf(name)}: "${value}"`);
  });
});

test('every setting has its line in the help', () => {
  for (const { help } of Object.values(SETTINGS)) expect(help.every((part) => part.length > 0)).toBe(true);
});
