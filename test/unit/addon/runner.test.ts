// The runner between addon and engine: what goes wrong in a native callback must not be lost.

import { expect, test, vi } from 'vitest';
import type { NativeAddon, OpenOptions } from '../../../src/addon/load.js';
import { NativeRunner } from '../../../src/addon/runner.js';

test('what the engine throws when it is woken reaches the process, not a warning of Node', async () => {
  let wake = (): void => {};
  const open: NativeAddon['open'] = async (_options, onWake) => {
    wake = onWake;
    return {} as Awaited<ReturnType<NativeAddon['open']>>;
  };
  const addon = { open, describe: () => ({}), close: async () => {} } as unknown as NativeAddon;
  const { runner } = await NativeRunner.open(addon, {} as OpenOptions);
  runner.onWake = () => {
    throw new Error('a bug');
  };
  const later = vi.spyOn(globalThis, 'setImmediate');
  try {
    expect(wake).not.toThrow();
    const [thrower] = later.mock.calls[0] as [() => void];
    clearImmediate(later.mock.results[0]?.value as NodeJS.Immediate);
    expect(thrower).toThrow('a bug');
    await runner.close();
    wake();
    expect(later).toHaveBeenCalledTimes(1);
  } finally {
    later.mockRestore();
  }
});
