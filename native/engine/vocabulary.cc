#include "vocabulary.h"

namespace nandu {
namespace {

// GPT-2 writes every byte as a printable code point: printable Latin-1 as itself, the other 68 as U+0100 and up in
// order. Returns the byte of a code point, or -1.
int byte_of(uint32_t code_point) {
  const auto printable = [](uint32_t b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
  };
  if (code_point < 0x100) return printable(code_point) ? static_cast<int>(code_point) : -1;
  uint32_t n = 0x100;
  for (uint32_t b = 0; b < 0x100; b++)
    if (!printable(b) && n++ == code_point) return static_cast<int>(b);
  return -1;
}

std::string decode(std::string_view token, const std::vector<int>& table) {
  std::string out;
  for (size_t i = 0; i < token.size();) {
    const unsigned char c = static_cast<unsigned char>(token[i]);
    uint32_t code_point = c;
    size_t length = 1;
    if (c >= 0xc2 && c < 0xe0 && i + 1 < token.size()) {
      code_point = (c & 0x1fu) << 6 | (static_cast<unsigned char>(token[i + 1]) & 0x3fu);
      length = 2;
    }
    const int byte = code_point < table.size() ? table[code_point] : -1;
    if (byte >= 0) out += static_cast<char>(byte);
    else out.append(token.substr(i, length));  // not of the alphabet: as written
    i += length;
  }
  return out;
}

}  // namespace

std::vector<std::string> token_texts(const ModelFile& file) {
  const auto tokens = file.get_string_array("tokenizer.ggml.tokens");
  if (!tokens) return {};
  const auto types = file.get_int_array("tokenizer.ggml.token_type");
  std::vector<int> table(0x200);
  for (uint32_t c = 0; c < table.size(); c++) table[c] = byte_of(c);
  std::vector<std::string> texts(tokens->size());
  for (size_t i = 0; i < texts.size(); i++) {
    const int64_t type = types && i < types->size() ? (*types)[i] : kTokenNormal;
    if (type == kTokenNormal) texts[i] = decode((*tokens)[i], table);
  }
  return texts;
}

}  // namespace nandu
