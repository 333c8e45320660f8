// Reading GGUF: a cursor that cannot leave its part, then metadata, tensor infos and the placement of tensor data.
#include "gguf.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cinttypes>
#include <cstdarg>
#include <cstddef>
#include <cstring>
#include <type_traits>

#include "../quant/float16.h"
#include "../quant/formats.h"
#include "../base/mapping_guard.h"

namespace nandu {
namespace {

constexpr uint32_t kVersion = 3;
constexpr uint64_t kDefaultAlignment = 32, kLeastAlignment = 8, kMostAlignment = 1 << 20;
constexpr uint64_t kLeastKeyBytes = 8 + 1 + 4 + 1;             // key, type, one-byte value
constexpr uint64_t kLeastTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, dimensions, one extent, type, offset
constexpr uint64_t kMostPadding = 4096;                        // zeros after the last tensor
constexpr uint32_t kMostDims = 4;
constexpr uint32_t kMostParts = 99999;  // five digits in the names

// Names of ggml types that nandu does not multiply, so that a refusal can say what the file holds.
const char* foreign_type_name(uint32_t id) {
  switch (id) {
    case 7: return "Q5_1";
    case 9: return "Q8_1";
    case 15: return "Q8_K";
    case 17: return "IQ2_XS";
    case 18: return "IQ3_XXS";
    case 19: return "IQ1_S";
    case 21: return "IQ3_S";
    case 22: return "IQ2_S";
    case 24: return "I8";
    case 25: return "I16";
    case 27: return "I64";
    case 28: return "F64";
    case 29: return "IQ1_M";
    case 34: return "TQ1_0";
    case 35: return "TQ2_0";
    case 40: return "NVFP4";
    default: return "unknown";
  }
}

// Bytes of a value; 0 for strings, arrays and unknown types.
uint64_t fixed_bytes(MetaType type) {
  switch (type) {
    case MetaType::kU8:
    case MetaType::kI8:
    case MetaType::kBool: return 1;
    case MetaType::kU16:
    case MetaType::kI16: return 2;
    case MetaType::kU32:
    case MetaType::kI32:
    case MetaType::kF32: return 4;
    case MetaType::kU64:
    case MetaType::kI64:
    case MetaType::kF64: return 8;
    default: return 0;
  }
}

bool is_integer(MetaType type) {
  return fixed_bytes(type) != 0 && type != MetaType::kBool && type != MetaType::kF32 && type != MetaType::kF64;
}

// An Error of the model file, which is named at the end.
__attribute__((format(printf, 2, 3))) Error refuse(const std::string& path, const char* format, ...) {
  char text[512];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return {Code::kModelFile, std::string(text) + " (" + path + ")"};
}

// Reads forward inside [p, end); after the first failed read `failed` stays set and every read answers zeros.
struct Cursor {
  const uint8_t* p;
  const uint8_t* end;
  bool failed = false;

  uint64_t left() const { return static_cast<uint64_t>(end - p); }
  const uint8_t* take(uint64_t bytes) {
    if (failed || bytes > left()) return failed = true, nullptr;
    const uint8_t* at = p;
    p += bytes;
    return at;
  }
  uint32_t u32() {
    const uint8_t* at = take(4);
    return at ? load_u32(at) : 0;
  }
  uint64_t u64() {
    const uint8_t* at = take(8);
    return at ? load_u64(at) : 0;
  }
  std::string_view string() {
    const uint64_t length = u64();
    const uint8_t* at = take(length);
    return at ? std::string_view(reinterpret_cast<const char*>(at), length) : std::string_view();
  }
};

int64_t integer_at(MetaType type, const uint8_t* p) {
  switch (type) {
    case MetaType::kU8: return *p;
    case MetaType::kI8: return static_cast<int8_t>(*p);
    case MetaType::kU16: return load_u16(p);
    case MetaType::kI16: return static_cast<int16_t>(load_u16(p));
    case MetaType::kU32: return load_u32(p);
    case MetaType::kI32: return static_cast<int32_t>(load_u32(p));
    default: return static_cast<int64_t>(load_u64(p));
  }
}

// Whether an integer value fits int64: only u64 can fail.
bool fits_int64(MetaType type, const uint8_t* p) {
  return type != MetaType::kU64 || load_u64(p) >> 63 == 0;
}

double number_at(MetaType type, const uint8_t* p) {
  if (type == MetaType::kF32) return float_from_bits(load_u32(p));
  if (type == MetaType::kU64) return static_cast<double>(load_u64(p));
  if (type != MetaType::kF64) return static_cast<double>(integer_at(type, p));
  const uint64_t bits = load_u64(p);
  double value;
  memcpy(&value, &bits, 8);
  return value;
}

// Part `index` (from 0) of `parts` for the first part's path, or "" when the path does not end in -00001-of-0000N.gguf.
std::string part_path(const std::string& first, uint32_t index, uint32_t parts) {
  char tail[40];
  snprintf(tail, sizeof tail, "-00001-of-%05u.gguf", parts);
  const size_t length = strlen(tail);
  if (first.size() < length || first.compare(first.size() - length, length, tail) != 0) return "";
  snprintf(tail, sizeof tail, "-%05u-of-%05u.gguf", index + 1, parts);
  return first.substr(0, first.size() - length) + tail;
}

// Reads one metadata value; on failure says why in `problem`.
bool read_value(Cursor& in, MetaValue* v, std::string* problem) {
  v->type = static_cast<MetaType>(in.u32());
  v->is_array = v->type == MetaType::kArray;
  v->count = 1;
  if (v->is_array) {
    v->type = static_cast<MetaType>(in.u32());
    v->count = in.u64();
  }
  if (in.failed) return *problem = "is cut off by the end of the file", false;
  v->data = in.p;
  if (v->type == MetaType::kString) {
    if (v->count > in.left() / 8) return *problem = "claims more strings than the file has room for", false;
    for (uint64_t i = 0; i < v->count; i++) in.string();
  } else if (const uint64_t width = fixed_bytes(v->type)) {
    if (v->is_array && v->count > in.left() / width)
      return *problem = "claims more elements than the file has room for", false;
    in.take(v->count * width);
  } else {
    *problem = v->type == MetaType::kArray ? "is an array of arrays, which no known key is"
                                           : "has unknown value type " + std::to_string(static_cast<uint32_t>(v->type));
    return false;
  }
  if (in.failed) return *problem = "is cut off by the end of the file", false;
  v->bytes = static_cast<uint64_t>(in.p - v->data);
  if (v->type == MetaType::kBool)
    for (uint64_t i = 0; i < v->bytes; i++)
      if (v->data[i] > 1) return *problem = "is a bool that is neither 0 nor 1", false;
  return true;
}

std::optional<uint64_t> uint_of(const MetaValue* v) {
  if (!v || v->is_array || !is_integer(v->type)) return std::nullopt;
  const int64_t value = integer_at(v->type, v->data);
  if (value < 0 && v->type != MetaType::kU64) return std::nullopt;
  return static_cast<uint64_t>(value);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (unsigned char c : text.substr(0, 80)) out += c >= 0x20 && c < 0x7f ? static_cast<char>(c) : '?';
  return text.size() > 80 ? out + "..." : out;
}

ModelFile::~ModelFile() {
  for (const Part& part : parts_)
    if (part.data) {
      unguard_mapping(part.data);
      munmap(const_cast<uint8_t*>(part.data), part.size);
    }
}

Status ModelFile::map(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not wait for its writer
  if (fd < 0) return refuse(path, "model file cannot be opened: %s", strerror(errno));
  struct stat info;
  const char* problem = fstat(fd, &info) != 0    ? strerror(errno)
                        : S_ISDIR(info.st_mode)  ? "is a directory"
                        : !S_ISREG(info.st_mode) ? "is not a regular file"
                        : info.st_size == 0      ? "is empty"
                                                 : nullptr;
  if (problem) {
    close(fd);
    return refuse(path, "model file %s", problem);
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  const int map_errno = errno;
  close(fd);
  if (data == MAP_FAILED) return refuse(path, "model file cannot be mapped: %s", strerror(map_errno));
  parts_.push_back({path, static_cast<const uint8_t*>(data), size});
  guard_mapping(static_cast<const uint8_t*>(data), size, path);
  return ok();
}

// One part while it is read. The first part's metadata becomes the file's; later parts only place their tensors.
struct ModelFile::PartReader {
  ModelFile& file;
  uint32_t index;
  uint32_t parts;  // 0 while the first part has yet to say
  const Part& part = file.parts_[index];
  Cursor in = {part.data, part.data + part.size};
  uint64_t num_tensors = 0, num_keys = 0, alignment = kDefaultAlignment;
  std::vector<MetaValue> later_metadata = {};
  Index later_keys = {};
  std::vector<uint64_t> offsets = {};  // of this part's tensors

  std::vector<MetaValue>& metadata() { return index == 0 ? file.metadata_ : later_metadata; }
  Index& keys() { return index == 0 ? file.keys_ : later_keys; }
  const MetaValue* find(std::string_view key) {
    const auto found = keys().find(key);
    return found == keys().end() ? nullptr : &metadata()[found->second];
  }

  Status read() {
    if (Status s = read_header(); !s.ok()) return s;
    for (uint64_t i = 0; i < num_keys; i++)
      if (Status s = read_key(i); !s.ok()) return s;
    if (Status s = apply_metadata(); !s.ok()) return s;
    for (uint64_t i = 0; i < num_tensors; i++)
      if (Status s = read_tensor(i); !s.ok()) return s;
    return place_tensors();
  }

  Status read_header() {
    const uint8_t* magic = in.take(4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0) return refuse(part.path, "not a GGUF file");
    const uint32_t version = in.u32();
    if (!in.failed && version != kVersion) {
      if (version != 0 && (version & 0xffff) == 0)
        return refuse(part.path, "big-endian GGUF; nandu reads little-endian files");
      return refuse(part.path, "GGUF version %u; nandu reads version %u, convert the file again", version, kVersion);
    }
    num_tensors = in.u64();
    num_keys = in.u64();
    if (in.failed) return refuse(part.path, "GGUF header is cut off after %" PRIu64 " bytes", part.size);
    if (num_keys > in.left() / kLeastKeyBytes)
      return refuse(part.path, "header claims %" PRIu64 " metadata keys, more than the file has room for", num_keys);
    if (num_tensors > in.left() / kLeastTensorBytes)
      return refuse(part.path, "header claims %" PRIu64 " tensors, more than the file has room for", num_tensors);
    return ok();
  }

  Status read_key(uint64_t i) {
    MetaValue value{};
    value.key = in.string();
    if (in.failed)
      return refuse(part.path, "metadata key %" PRIu64 " of %" PRIu64 " is cut off by the end of the file", i + 1,
                    num_keys);
    if (value.key.empty()) return refuse(part.path, "metadata key %" PRIu64 " has an empty name", i + 1);
    std::string problem;
    if (!read_value(in, &value, &problem))
      return refuse(part.path, "metadata key %s %s", printable(value.key).c_str(), problem.c_str());
    if (!keys().emplace(value.key, static_cast<uint32_t>(metadata().size())).second)
      return refuse(part.path, "metadata key %s appears twice", printable(value.key).c_str());
    metadata().push_back(value);
    return ok();
  }

  Status apply_metadata() {
    if (const MetaValue* value = find("general.alignment")) {
      alignment = uint_of(value).value_or(0);
      if (alignment < kLeastAlignment || alignment > kMostAlignment || (alignment & (alignment - 1)) != 0)
        return refuse(part.path, "metadata key general.alignment must be a power of two from %" PRIu64 " to %" PRIu64,
                      kLeastAlignment, kMostAlignment);
    }
    if (const MetaValue* value = find("split.no"); value && uint_of(value) != index)
      return refuse(part.path, "metadata key split.no says this is not part %u; open the part named -00001-of-...",
                    index + 1);
    if (const MetaValue* value = find("split.count"); value && parts != 0 && uint_of(value) != parts)
      return refuse(part.path, "metadata key split.count differs from the first part's %u", parts);
    return ok();
  }

  // Leaves `data` open: where the data section starts is known only after the last info.
  Status read_tensor(uint64_t i) {
    TensorView t{};
    t.name = in.string();
    if (in.failed)
      return refuse(part.path, "tensor info %" PRIu64 " of %" PRIu64 " is cut off by the end of the file", i + 1,
                    num_tensors);
    if (t.name.empty()) return refuse(part.path, "tensor %" PRIu64 " has an empty name", i + 1);
    const std::string name = printable(t.name);
    t.n_dims = in.u32();
    if (!in.failed && (t.n_dims < 1 || t.n_dims > kMostDims))
      return refuse(part.path, "tensor %s has %u dimensions; 1 to %u are allowed", name.c_str(), t.n_dims, kMostDims);
    for (uint32_t d = 0; d < kMostDims; d++) t.ne[d] = d < t.n_dims ? in.u64() : 1;
    const uint32_t type_id = in.u32();
    offsets.push_back(in.u64());
    if (in.failed) return refuse(part.path, "tensor %s is cut off by the end of the file", name.c_str());
    t.type = static_cast<TensorType>(type_id);
    const TypeInfo* info = type_info(t.type);
    if (!info)
      return refuse(part.path, "tensor %s has type %u (%s), which nandu does not support", name.c_str(), type_id,
                    foreign_type_name(type_id));
    if (t.ne[0] % info->block_values != 0)
      return refuse(part.path, "tensor %s has rows of %" PRIu64 " values; type %s needs a multiple of %u", name.c_str(),
                    t.ne[0], info->name, info->block_values);
    uint64_t values = 1;
    t.bytes = info->block_bytes;
    bool overflow = __builtin_mul_overflow(t.bytes, t.ne[0] / info->block_values, &t.bytes);
    for (uint32_t d = 0; d < kMostDims; d++) {
      if (t.ne[d] == 0) return refuse(part.path, "tensor %s has an extent of 0 in dimension %u", name.c_str(), d);
      overflow |= __builtin_mul_overflow(values, t.ne[d], &values);
      if (d > 0) overflow |= __builtin_mul_overflow(t.bytes, t.ne[d], &t.bytes);
    }
    if (overflow) return refuse(part.path, "tensor %s has dimensions whose product overflows", name.c_str());
    t.file = &part.path;
    if (!file.names_.emplace(t.name, static_cast<uint32_t>(file.tensors_.size())).second)
      return refuse(part.path, "tensor %s appears twice", name.c_str());
    file.tensors_.push_back(t);
    return ok();
  }

  Status place_tensors() {
    const uint64_t header_bytes = static_cast<uint64_t>(in.p - part.data);
    const uint64_t start = (header_bytes + alignment - 1) / alignment * alignment;
    const uint64_t room = start <= part.size ? part.size - start : 0;
    if (offsets.empty()) return ok();
    std::vector<std::pair<uint64_t, TensorView*>> order;  // by offset
    TensorView* t = file.tensors_.data() + (file.tensors_.size() - offsets.size());
    for (uint64_t offset : offsets) {
      if (offset % alignment != 0)
        return refuse(part.path, "tensor %s has offset %" PRIu64 ", not a multiple of the alignment %" PRIu64,
                      printable(t->name).c_str(), offset, alignment);
      if (offset > room || t->bytes > room - offset)
        return refuse(part.path, "tensor %s reaches beyond the end of the file", printable(t->name).c_str());
      t->data = part.data + start + offset;
      order.emplace_back(offset, t++);
    }
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < order.size(); i++) {
      const TensorView& here = *order[i].second;
      if (i > 0 && order[i - 1].second->data + order[i - 1].second->bytes > here.data)
        return refuse(part.path, "tensors %s and %s overlap", printable(order[i - 1].second->name).c_str(),
                      printable(here.name).c_str());
      file.tensor_bytes_ += here.bytes;
    }
    // What else follows was not written by who wrote the header: a bad copy or a lost tensor.
    const TensorView& last = *order.back().second;
    const uint8_t* end = part.data + part.size;
    const uint64_t tail = static_cast<uint64_t>(end - (last.data + last.bytes));
    if (tail > std::max(alignment, kMostPadding) ||
        std::any_of(last.data + last.bytes, end, [](uint8_t b) { return b; }))
      return refuse(part.path, "%" PRIu64 " bytes that are no padding follow the last tensor %s", tail,
                    printable(last.name).c_str());
    return ok();
  }
};

Result<std::unique_ptr<ModelFile>> open_model_file(const std::string& path) {
  std::unique_ptr<ModelFile> file(new ModelFile());
  if (Status s = file->map(path); !s.ok()) return s.error();
  if (Status s = ModelFile::PartReader{*file, 0, 0}.read(); !s.ok()) return s.error();
  const MetaValue* count = file->find("split.count");
  const uint32_t parts =
      static_cast<uint32_t>(std::min<uint64_t>(count ? uint_of(count).value_or(0) : 1, kMostParts + 1));
  if (parts < 1 || parts > kMostParts) return refuse(path, "metadata key split.count must be 1 to %u", kMostParts);
  for (uint32_t i = 1; i < parts; i++) {
    const std::string next = part_path(path, i, parts);
    if (next.empty())
      return refuse(path, "metadata key split.count is %u, so the file name must end in -00001-of-%05u.gguf", parts,
                    parts);
    if (Status s = file->map(next); !s.ok()) return s.error();
    if (Status s = ModelFile::PartReader{*file, i, parts}.read(); !s.ok()) return s.error();
  }
  if (const MetaValue* total = file->find("split.tensors.count"); total && uint_of(total) != file->tensors_.size())
    return refuse(path, "metadata key split.tensors.count differs from the %zu tensors of the parts",
                  file->tensors_.size());
  return file;
}

const TensorView* ModelFile::tensor(std::string_view name) const {
  const auto found = names_.find(name);
  return found == names_.end() ? nullptr : &tensors_[found->second];
}

const MetaValue* ModelFile::find(std::string_view key) const {
  const auto found = keys_.find(key);
  return found == keys_.end() ? nullptr : &metadata_[found->second];
}

std::optional<uint64_t> ModelFile::get_uint(std::string_view key) const {
  return uint_of(find(key));
}

std::optional<int64_t> ModelFile::get_int(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v || v->is_array || !is_integer(v->type) || !fits_int64(v->type, v->data)) return std::nullopt;
  return integer_at(v->type, v->data);
}

std::optional<double> ModelFile::get_float(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v || v->is_array || v->type == MetaType::kBool || v->type == MetaType::kString) return std::nullopt;
  return number_at(v->type, v->data);
}

std::optional<bool> ModelFile::get_bool(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v || v->is_array || v->type != MetaType::kBool) return std::nullopt;
  return *v->data != 0;
}

std::optional<std::string_view> ModelFile::get_string(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v || v->is_array || v->type != MetaType::kString) return std::nullopt;
  return std::string_view(reinterpret_cast<const char*>(v->data + 8), v->bytes - 8);
}

std::optional<std::vector<int64_t>> ModelFile::get_int_array(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v || !v->is_array || !is_integer(v->type)) return std::nullopt;
  std::vector<int64_t> out(v->count);
  const uint64_t width = fixed_bytes(v->type);
  for (uint64_t i = 0; i < v->count; i++) {
    if (!fits_int64(v->type, v->data + i * width)) return std::nullopt;
    out[i] = integer_at(v->type, v->data + i * width);
  }
  return out;
}

std::optional<std::vector<double>> ModelFile::get_float_array(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v || !v->is_array || v->type == MetaType::kBool || v->type == MetaType::kString) return std::nullopt;
  std::vector<double> out(v->count);
  for (uint64_t i = 0; i < v->count; i++) out[i] = number_at(v->type, v->data + i * fixed_bytes(v->type));
  return out;
}

std::optional<std::vector<std::string_view>> ModelFile::get_string_array(std::string_view key) const {
  const MetaValue* v = find(key);
  if (!v || !v->is_array || v->type != MetaType::kString) return std::nullopt;
  std::vector<std::string_view> out(v->count);
  Cursor in{v->data, v->data + v->bytes};
  for (std::string_view& text : out) text = in.string();
  return out;
}

namespace {

constexpr uint64_t kNoBlock = ~uint64_t{0};

// The first block for which `bad` says so. Runs of blocks are judged without a branch, so that compilers use vectors;
// for values that lie close together they do when Bytes is a constant's type.
template <typename Bytes, typename Bad>
uint64_t first_bad(const TensorView& t, Bytes block_bytes, Bad bad) {
  constexpr uint64_t kRun = 256;
  const uint64_t blocks = t.bytes / block_bytes;
  for (uint64_t i = 0; i < blocks; i += kRun) {
    const uint64_t end = std::min(blocks, i + kRun);
    uint32_t any = 0;
    for (uint64_t b = i; b < end; b++) any |= bad(t.data + b * block_bytes);
    if (!any) continue;
    for (uint64_t b = i; b < end; b++)
      if (bad(t.data + b * block_bytes)) return b;
  }
  return kNoBlock;
}

// NaN and infinity have all exponent bits set. The host has the file's byte order.
static_assert(std::endian::native == std::endian::little);
template <typename Word>
uint32_t all_ones(const uint8_t* p, Word exponent) {
  Word word;
  memcpy(&word, p, sizeof word);
  return (word & exponent) == exponent;
}
uint32_t bad_f16(const uint8_t* p) {
  return all_ones<uint16_t>(p, 0x7c00);
}

template <typename Word>
uint64_t first_bad_float(const TensorView& t, Word exponent) {
  return first_bad(t, std::integral_constant<uint32_t, sizeof(Word)>(),
                   [exponent](const uint8_t* p) { return all_ones(p, exponent); });
}

uint64_t first_bad_block(const TensorView& t, uint32_t block_bytes) {
  // Where the f16 scales of a block lie.
  const auto one = [&](uint32_t d) {
    return first_bad(t, block_bytes, [d](const uint8_t* p) { return bad_f16(p + d); });
  };
  const auto two = [&](uint32_t d) {
    return first_bad(t, block_bytes, [d](const uint8_t* p) { return bad_f16(p + d) | bad_f16(p + d + 2); });
  };
  switch (t.type) {
    case TensorType::kF32: return first_bad_float<uint32_t>(t, 0x7f800000);
    case TensorType::kF16: return first_bad_float<uint16_t>(t, 0x7c00);
    case TensorType::kBF16: return first_bad_float<uint16_t>(t, 0x7f80);
    case TensorType::kMXFP4: return first_bad(t, block_bytes, [](const uint8_t* p) -> uint32_t { return p[0] == 255; });
    case TensorType::kQ8_0:
    case TensorType::kQ4_0:
    case TensorType::kQ5_0:
    case TensorType::kIQ4_NL:
    case TensorType::kIQ2_XXS:
    case TensorType::kIQ4_XS: return one(0);
    case TensorType::kQ4_1:
    case TensorType::kQ4_K:
    case TensorType::kQ5_K: return two(0);
    case TensorType::kQ2_K: return two(offsetof(BlockQ2_K, d));
    case TensorType::kQ3_K: return one(offsetof(BlockQ3_K, d));
    case TensorType::kQ6_K: return one(offsetof(BlockQ6_K, d));
    case TensorType::kI32: return kNoBlock;
  }
  return kNoBlock;
}

}  // namespace

Status check_scales(const TensorView& tensor) {
  const TypeInfo* info = type_info(tensor.type);
  const uint64_t block = first_bad_block(tensor, info->block_bytes);
  if (block == kNoBlock) return ok();
  const char* what = info->block_values == 1 ? "value in element" : "scale in block";
  return refuse(*tensor.file, "tensor %s holds a NaN or infinite %s %" PRIu64 " of %" PRIu64,
                printable(tensor.name).c_str(), what, block, tensor.bytes / info->block_bytes);
}

}  // namespace nandu
