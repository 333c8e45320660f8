// Where the cache lives when nobody says so: apart from config.ts, whose checks take a third of a second to load.

import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';

/** A folder of its own in the user's cache. A relative path in the variable counts for nothing (XDG Base Directory). */
export function defaultKvFolder(environment: Readonly<Record<string, string | undefined>>): string {
  const { XDG_CACHE_HOME: cacheHome = '' } = environment;
  return join(isAbsolute(cacheHome) ? cacheHome : join(homedir(), '.cache'), 'nandu', 'kv');
}
