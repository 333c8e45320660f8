// nandu serve: its flags. What it does is serve-process.ts.

import type { Command } from 'commander';
import { loadAddon } from '../addon/load.js';
import { DEFAULT_PRICES, type PriceList } from '../base/prices.js';
import { type Config, flagOf, readConfig, SETTINGS, type SettingName } from '../config.js';
import { SIGNAL_EXIT, type Signal } from './format.js';

type ServeFlags = Readonly<Partial<Record<SettingName, string>>>;

export function registerServe(program: Command): void {
  const command = program
    .command('serve')
    .summary('answer requests over gRPC')
    .description('Serves a model over gRPC. Clients are told MODEL_LOADING until it is there, and SIGTERM drains.');
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const { help, unset } = SETTINGS[name];
    const isWorthSaying = unset !== null && unset !== '0';
    const short = name === 'model' ? '-m, ' : '';
    command.option(`${short}${flagOf(name)} <${help[0]}>`, `${help[1]}${isWorthSaying ? ` (default: ${unset})` : ''}`);
  }
  command
    .addHelpText(
      'after',
      `
Every flag is also a variable: --max-running is NANDU_MAX_RUNNING. A flag goes first.

Examples:
  nandu serve                                     the embedded model, a pocket dictionary
  nandu serve --model v4.gguf --listen 0.0.0.0:50051 --max-running 32
  grpcurl -plaintext -d '{"chat":{"messages":[{"role":"ROLE_USER","content":"What is a river?"}]}}' \\
    127.0.0.1:50051 nandu.v1.GenerationService/GenerateStream`,
    )
    .action(serve);
}

async function serve(flags: ServeFlags): Promise<void> {
  const config = readConfig(flags, process.env);
  const signals = new StopSignals();
  try {
    const prices = await pricesOf(config);
    // It brings gRPC, most of the time that a command takes to start: only where it is meant.
    const { serveUntilStopped } = await import('./serve-process.js');
    await serveUntilStopped(config, prices, signals);
  } finally {
    signals.close();
  }
  // A load that a signal overtook may still be reading, and a store still closing on a disk that hangs.
  loadAddon().exitNow(0);
}

/** SIGTERM and SIGINT from the first moment on: one that comes before anybody can drain is kept. The second one ends the process. */
export class StopSignals {
  #first: Signal | null = null;
  #onStop: (signal: Signal) => void = () => {};
  readonly #onSignal = (signal: Signal): void => {
    if (this.#first !== null) loadAddon().exitNow(SIGNAL_EXIT[signal]);
    this.#first = signal;
    this.#onStop(signal);
  };

  constructor() {
    process.on('SIGTERM', this.#onSignal).on('SIGINT', this.#onSignal);
  }

  /** Called with the first one, at once if it has come already. */
  onStop(stop: (signal: Signal) => void): void {
    this.#onStop = stop;
    if (this.#first !== null) stop(this.#first);
  }

  close(): void {
    process.off('SIGTERM', this.#onSignal).off('SIGINT', this.#onSignal);
  }
}

async function pricesOf({ prices }: Config): Promise<PriceList | null> {
  if (prices === null) return DEFAULT_PRICES;
  return prices === 'none' ? null : (await import('../base/price-list.js')).readPriceList(prices);
}
