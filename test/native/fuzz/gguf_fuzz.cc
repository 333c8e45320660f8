// Coverage-guided fuzzing of what a foreign model file reaches: the GGUF reader, its getters, the scale check, row
// decoding, and binding the tensors of a model. An input is the file, or, after the magic "SPLT" and a u32 length, the
// first and the second part of a split one. tools/fuzz.sh builds and runs it; by hand:
//
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -fno-exceptions
//     test/native/fuzz/gguf_fuzz.cc native/load/gguf.cc native/base/mapping_guard.cc native/quant/dequant.cc
//     native/model/weights.cc -o gguf_fuzz
//   ./gguf_fuzz -max_total_time=60 -malloc_limit_mb=256 -print_final_stats=1 NEW_INPUTS test/native/fuzz/corpus/gguf
//
// It stops on a crash, a sanitizer report, an allocation beyond the limit, a broken view, an error of several lines.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../../native/load/gguf.h"
#include "../../../native/model/weights.h"
#include "../../../native/quant/dequant.h"

using namespace nandu;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr size_t kSplitHeader = 8;

uint64_t load(const uint8_t* p, int bytes) {
  uint64_t value = 0;
  memcpy(&value, p, static_cast<size_t>(bytes));
  return value;
}

// --- the oracle ----------------------------------------------------------------------------------

void expect_one_line(const Error& e) {
  NANDU_CHECK(e.code == Code::kModelFile && !e.message.empty() && e.message.size() < 1200);
  for (unsigned char c : e.message) NANDU_CHECK(c >= 0x20 && c < 0x7f);
}

// Two files in memory under fixed names, rewritten for every input.
struct Files {
  std::string folder, first, second;
  Files() {
    char name[] = "/dev/shm/nandu-gguf-fuzz-XXXXXX";
    NANDU_CHECK(mkdtemp(name) != nullptr);
    folder = name;
    first = folder + "/m-00001-of-00002.gguf", second = folder + "/m-00002-of-00002.gguf";
  }
  ~Files() {
    unlink(first.c_str());
    unlink(second.c_str());
    rmdir(folder.c_str());
  }
  static void put(const std::string& path, const uint8_t* data, size_t size) {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    NANDU_CHECK(fd >= 0 && write(fd, data, size) == static_cast<ssize_t>(size));
    close(fd);
  }
};

void use_everything(const ModelFile& file) {
  uint64_t sum = 0, bytes = 0;
  for (const MetaValue& v : file.metadata()) {
    NANDU_CHECK(file.find(v.key) == &v);
    sum += file.get_uint(v.key).value_or(0) + static_cast<uint64_t>(file.get_int(v.key).value_or(0));
    sum += file.get_bool(v.key).value_or(false) + (file.get_float(v.key).value_or(0) > 0);
    for (char c : file.get_string(v.key).value_or("")) sum += static_cast<unsigned char>(c);
    if (const auto a = file.get_int_array(v.key)) NANDU_CHECK(a->size() == v.count);
    if (const auto a = file.get_float_array(v.key)) NANDU_CHECK(a->size() == v.count);
    if (const auto a = file.get_string_array(v.key))
      for (std::string_view text : *a)
        for (char c : text) sum += static_cast<unsigned char>(c);
  }
  for (const TensorView& t : file.tensors()) {
    NANDU_CHECK(file.tensor(t.name) == &t);
    const TypeInfo* info = type_info(t.type);
    NANDU_CHECK(t.bytes == row_bytes(*info, t.ne[0]) * t.ne[1] * t.ne[2] * t.ne[3]);
    bytes += t.bytes;
    sum += t.data[0] + t.data[t.bytes - 1];
    if (const Status checked = check_scales(t); !checked.ok()) expect_one_line(checked.error());
    if (t.type == TensorType::kI32) continue;
    std::vector<double> row(t.ne[0]);
    dequant_row_f64(t.type, t.data + t.bytes - row_bytes(*info, t.ne[0]), t.ne[0], row.data());
  }
  NANDU_CHECK(bytes == file.tensor_bytes());
  volatile uint64_t sink = sum;
  (void)sink;
}

// --- the mutator ---------------------------------------------------------------------------------

struct Random {
  uint64_t state;
  uint64_t next() {
    uint64_t z = (state += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  size_t below(size_t n) { return next() % n; }
};

struct Field {
  size_t at;
  int bytes;
};
struct Record {
  size_t at, end;
  bool is_tensor;
};

// Where the fields and records of a file lie, as far as it can be walked.
struct Map {
  std::vector<Field> fields;
  std::vector<Record> records;

  Map(const uint8_t* data, size_t size) {
    static constexpr int kWidths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    size_t at = 4;
    const auto field = [&](int bytes, uint64_t* value) {
      if (at + static_cast<size_t>(bytes) > size) return false;
      fields.push_back({at, bytes});
      *value = load(data + at, bytes);
      at += static_cast<size_t>(bytes);
      return true;
    };
    const auto skip = [&](uint64_t bytes) { return bytes <= size - at ? (at += bytes, true) : false; };
    const auto string = [&] {
      uint64_t length;
      return field(8, &length) && skip(length);
    };
    uint64_t version, tensors, keys, value;
    if (!field(4, &version) || !field(8, &tensors) || !field(8, &keys)) return;
    for (uint64_t i = 0; i < keys; i++) {
      const size_t start = at;
      uint64_t type, count = 1;
      if (!string() || !field(4, &type)) return;
      if (type == 9 && (!field(4, &type) || !field(8, &count))) return;
      for (uint64_t n = 0; n < count; n++) {
        if (type == 8 ? !string() : type > 12 || type == 9 || !field(kWidths[type], &value)) return;
      }
      records.push_back({start, at, false});
    }
    for (uint64_t i = 0; i < tensors; i++) {
      const size_t start = at;
      uint64_t dims;
      if (!string() || !field(4, &dims) || dims > 8) return;
      for (uint64_t d = 0; d < dims; d++)
        if (!field(8, &value)) return;
      if (!field(4, &value) || !field(8, &value)) return;
      records.push_back({start, at, true});
    }
  }
};

uint64_t interesting(Random& random, uint64_t now, size_t size) {
  static constexpr uint64_t kTypes[] = {0, 1, 2, 3, 6, 8, 10, 11, 12, 13, 14, 16, 20, 23, 26, 30, 39, 40};
  switch (random.below(9)) {
    case 0: return now + 1;
    case 1: return now - 1;
    case 2: return ~uint64_t{0} >> random.below(64);
    case 3: return uint64_t{1} << random.below(64);
    case 4: return 0;
    case 5: return size - random.below(64);
    case 6: return now ^ (1ull << random.below(64));
    case 7: return kTypes[random.below(std::size(kTypes))];
    default: return now * 2;
  }
}

void add_to(std::vector<uint8_t>& file, size_t at, int64_t change) {
  if (at + 8 > file.size()) return;
  const uint64_t value = load(&file[at], 8) + static_cast<uint64_t>(change);
  memcpy(&file[at], &value, 8);
}

// Changes one field, or one record together with the count that speaks of it, or the end of the file.
void mutate(std::vector<uint8_t>& file, Random& random) {
  const Map map(file.data(), file.size());
  const size_t kind = random.below(8);
  if (kind < 5 && !map.fields.empty()) {
    const Field f = map.fields[random.below(map.fields.size())];
    uint64_t value = interesting(random, load(&file[f.at], f.bytes), file.size());
    if (kind == 4) {  // a value from elsewhere in the file
      const Field other = map.fields[random.below(map.fields.size())];
      value = load(&file[other.at], other.bytes);
    }
    memcpy(&file[f.at], &value, static_cast<size_t>(f.bytes));
  } else if (kind < 7 && !map.records.empty()) {
    const Record r = map.records[random.below(map.records.size())];
    const size_t count_at = r.is_tensor ? 8 : 16;
    const std::vector<uint8_t> bytes(file.begin() + static_cast<long>(r.at), file.begin() + static_cast<long>(r.end));
    if (kind == 5) {
      file.erase(file.begin() + static_cast<long>(r.at), file.begin() + static_cast<long>(r.end));
      add_to(file, count_at, -1);
    } else {
      file.insert(file.begin() + static_cast<long>(r.at), bytes.begin(), bytes.end());
      add_to(file, count_at, 1);
    }
  } else if (!file.empty()) {
    file.resize(file.size() - random.below(std::min<size_t>(file.size(), 400)));
  }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  Random random{seed};
  if (random.below(5) == 0) return LLVMFuzzerMutate(data, size, max_size);
  // A split input: one of its parts.
  size_t start = 0, end = size;
  const bool split = size >= kSplitHeader && !memcmp(data, "SPLT", 4);
  if (split) {
    const size_t first = std::min<size_t>(size - kSplitHeader, load(data + 4, 4));
    start = random.below(2) ? kSplitHeader : kSplitHeader + first;
    end = start == kSplitHeader ? kSplitHeader + first : size;
  }
  std::vector<uint8_t> file(data + start, data + end);
  for (size_t n = 1 + random.below(2); n > 0; n--) mutate(file, random);
  if (size - (end - start) + file.size() > max_size) return size;
  std::vector<uint8_t> all(data, data + start);
  all.insert(all.end(), file.begin(), file.end());
  all.insert(all.end(), data + end, data + size);
  if (split && start == kSplitHeader) {
    const uint32_t first = static_cast<uint32_t>(file.size());
    memcpy(&all[4], &first, 4);
  }
  memcpy(data, all.data(), all.size());
  return all.size();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Files files;
  if (size >= kSplitHeader && !memcmp(data, "SPLT", 4)) {
    const size_t first = std::min<size_t>(size - kSplitHeader, load(data + 4, 4));
    Files::put(files.first, data + kSplitHeader, first);
    Files::put(files.second, data + kSplitHeader + first, size - kSplitHeader - first);
  } else {
    Files::put(files.first, data, size);
    unlink(files.second.c_str());
  }
  const auto opened = open_model_file(files.first);
  if (!opened.ok()) {
    expect_one_line(opened.error());
    return 0;
  }
  use_everything(*opened.value());
  if (const auto model = load_model(files.first, 0); !model.ok()) expect_one_line(model.error());
  return 0;
}
