// The model that is served when nobody names one: a pocket dictionary, trained by tools/model and shipped in the package.

import { fileURLToPath } from 'node:url';

export const DEFAULT_MODEL_PATH = fileURLToPath(new URL('../../models/nandu-dictionary.gguf', import.meta.url));
