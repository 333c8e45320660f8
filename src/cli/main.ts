// The command line: what commands there are, and what happens to an error. Each command is a file beside this one.

import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { registerCache } from './cache.js';
import { ExitCode, exitCodeOf } from './format.js';
import { registerInspect } from './inspect.js';
import { openKvDirectory } from './kv.js';
import { registerPlan } from './plan.js';
import { registerRun } from './run.js';
import { registerScore } from './score.js';
import { registerServe } from './serve.js';
import { registerSynth } from './synth.js';
import { registerTokenize } from './tokenize.js';

const COMMANDS: readonly ((program: Command) => void)[] = [
  registerServe,
  registerRun,
  registerScore,
  registerInspect,
  registerPlan,
  (program) => registerCache(program, openKvDirectory),
  registerSynth,
  registerTokenize,
];

function makeProgram(): Command {
  const program = new Command('nandu')
    .description('Serves DeepSeek-V4-class models over gRPC from a CPU.')
    .version(readVersion(), '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print this, or the help of a command')
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'nandu: ')) })
    .exitOverride()
    .addHelpText(
      'after',
      `
Examples:
  nandu serve                                    the embedded model on 127.0.0.1:50051
  nandu serve --model v4.gguf --listen 0.0.0.0:50051
  nandu run --model v4.gguf --prompt 'Once upon a time'
  nandu inspect v4.gguf
  nandu plan --preset V4-Flash --ssd 1TB         what its KV takes, and what a cached prompt is worth
  nandu <command> --help                         every flag of a command, with examples

Environment:
  NANDU_TARGET      caps the kernels: scalar, avx2, avx512 or amx (default: the best that this CPU has)
  XDG_CACHE_HOME    its nandu/kv is where prompts are kept, unless --kv-dir says (default: ~/.cache)

Exit codes:
  0 done   1 unexpected   64 wrong use   66 a model or input file is missing or malformed
  69 the addon is not built, or the port or the cache directory is taken   71 out of memory
  74 input or output failed, or a directory cannot be used   78 wrong configuration   130 interrupted, 143 told to end (serve: twice)

Results go to standard output, progress and remarks to standard error.`,
    );
  for (const register of COMMANDS) register(program);
  for (const command of program.commands) command.exitOverride().configureOutput(program.configureOutput());
  return program;
}

/** Runs one command line and sets the exit code; an error is one line on standard error. */
export async function runCli(argv: readonly string[]): Promise<void> {
  // A reader that has seen enough (`nandu inspect | head`) closes the pipe: no error.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : ExitCode.IO));
  try {
    await makeProgram().parseAsync(argv);
  } catch (error) {
    process.exitCode = exitCodeOf(error);
    if (error instanceof CommanderError) return; // commander has printed it, or it is the help
    if (process.exitCode === ExitCode.UNEXPECTED && error instanceof Error) console.error(error.stack);
    else console.error(`nandu: ${(error instanceof Error ? error.message : String(error)).split('\n')[0]}`);
  }
}

function readVersion(): string {
  const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}
