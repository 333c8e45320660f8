import { setTimeout as timeout } from 'node:timers/promises';

/** What `promise` comes to, or `otherwise` when that takes longer. The timer keeps no process alive. */
export function within<T>(ms: number, promise: Promise<T>, otherwise: T): Promise<T> {
  return Promise.race([promise, timeout(ms, otherwise, { ref: false })]);
}
