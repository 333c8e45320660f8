// Apart from config.ts, whose checks take a third of a second to load: every command can tell the error.

/** A wrong value: who set it, what it was, what is allowed. */
export class ConfigurationError extends Error {
  constructor(
    message: string,
    /** A flag is the caller's own mistake, a variable or a file is the machine's configuration. */
    readonly source: 'flag' | 'environment' | 'file',
  ) {
    super(message);
  }
}
