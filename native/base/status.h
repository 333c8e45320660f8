// Expected failures as values. No exception leaves native/; a bug is a NANDU_CHECK.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <utility>
#include <variant>

namespace nandu {

// Each value says what the caller does with it; the numbers travel to TypeScript (src/addon/layout.ts).
enum class Code : int32_t {
  kOk = 0,
  kInvalidArgument = 1,  // the caller's request is wrong          -> refuse it, name the field
  kModelFile = 2,        // the model file is missing or malformed -> refuse the model, name key or tensor (exit 66)
  kNoMemory = 3,         // a budget or the machine is exhausted    -> refuse or wait
  kIo = 4,               // the operating system said no            -> report errno text
  kEngine = 5,           // arithmetic met a non-finite value etc.  -> fail this request only
  kBusy = 6,             // somebody else holds it                  -> say who, exit 69
};

struct Error {
  Code code;
  std::string message;  // one line, names the key, tensor, field or file, and what to do
};

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
inline Error
error(Code code, const char* format, ...) {
  char text[1024];
  va_list args;
  va_start(args, format);
  vsnprintf(text, sizeof text, format, args);
  va_end(args);
  return {code, text};
}

// A value or an Error. `ok()` first, then `value()`.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}
  bool ok() const { return state_.index() == 0; }
  T& value() { return std::get<0>(state_); }
  const T& value() const { return std::get<0>(state_); }
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

using Status = Result<std::monostate>;
inline Status ok() {
  return std::monostate{};
}

}  // namespace nandu

// A bug of ours, never a bad input: stop with the place.
#define NANDU_CHECK(condition)                                                               \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      fprintf(stderr, "nandu: check failed: %s at %s:%d\n", #condition, __FILE__, __LINE__); \
      abort();                                                                               \
    }                                                                                        \
  } while (0)
