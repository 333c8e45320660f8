// The vocabulary of a GGUF file (tokenizer.ggml.*), for stop strings here and for the tokenizer in TypeScript.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "../load/gguf.h"

namespace nandu {

// GGUF token type (tokenizer.ggml.token_type) of what is text; all others are markers.
inline constexpr int32_t kTokenNormal = 1;

// Bytes of every token as answer text, by id: normal tokens through GPT-2's byte alphabet; all others are never shown
// and have none (src/text/tokenizer.ts does the same). Empty vector: the file has no vocabulary.
std::vector<std::string> token_texts(const ModelFile& file);

}  // namespace nandu
