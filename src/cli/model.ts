// Which model file a command means, and the vocabulary of those that synth makes.

import { DEFAULT_MODEL_PATH } from '../engine/default-model.js';
import { buildVocabulary } from '../text/bpe-trainer.js';

/** A vocabulary trained from this repository's text, as synth takes it. Throws RangeError for an impossible size. */
export function nativeVocabulary(size: number): object {
  const vocabulary = buildVocabulary(size);
  return { ...vocabulary, tokenTypes: Int32Array.from(vocabulary.tokenTypes) };
}

/** Path of `given`, or of the embedded model. */
export function modelPath(given: string | undefined): string {
  return given ?? DEFAULT_MODEL_PATH;
}
