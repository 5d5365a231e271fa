// The kinds of values that flags take. Each function binds a flag to a variable, which must outlive
// the table; the variable's value at that moment is the default that --help prints.
#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/numeric/int128.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace lectern::flags {

struct Value {
  std::string placeholder;  // stands for the value in --help, e.g. "BYTES"; empty: takes no value
  std::string initial;      // the default as the command line would write it; empty: none
  // Stores a value. Returns "" or, leaving the variable as it was, a phrase that says what is
  // allowed, e.g. "must be a whole number from 1 to 16".
  std::function<std::string(const std::string& text)> set;
  bool required = false;
  bool repeatable = false;
};

// The flag must be given.
Value Required(Value value);
// The flag may be given several times; `set` is called each time.
Value Repeatable(Value value);

// Present or absent: --json.
Value Switch(bool* value);
Value SwitchTo(std::function<void()> store);
// "true" or "false".
Value Boolean(bool* value);

// Any text but the empty one; AnyText() takes that too.
Value Text(std::string* value, std::string_view placeholder);
Value AnyText(std::string* value, std::string_view placeholder);

// A number of bytes: 1073741824, 512MiB, 4GiB.
Value Bytes(uint64_t* value, uint64_t low = 1, uint64_t high = uint64_t{1} << 46);
// A number of things that may be large: 65536, 64k, 64Ki, 1M. k and M count in thousands, Ki and Mi
// in powers of 1,024.
Value Count(uint64_t* value, uint64_t low = 1, uint64_t high = uint64_t{1} << 46);

// A duration from `low` to one year with its unit: 500ms, 30s, 2h.
Value Duration(absl::Duration* value, absl::Duration low = absl::ZeroDuration());
// A duration above 0 given as seconds (2.5) or with a unit (500ms). An infinite one, which no flag
// can write, shows no default.
Value Seconds(absl::Duration* value);
Value SecondsTo(std::function<void(absl::Duration)> store);

// A finite number in [low, high]. Full precision is kept; --help shows six digits.
Value Real(double* value, double low, double high, std::string_view placeholder = "X");
Value RealTo(std::function<void(double)> store, double low, double high,
             std::string_view placeholder = "X");

// Whole numbers in [low, high], separated by commas. An empty text is an empty list.
Value Integers(std::vector<int64_t>* value, int64_t low, int64_t high,
               std::string_view placeholder = "N,N,...");
Value IntegersTo(std::function<void(const std::vector<int64_t>&)> store, int64_t low, int64_t high,
                 std::string_view placeholder);

// One of several words.
Value WordTo(std::function<void(size_t index)> store, std::vector<std::string> words,
             std::string_view initial = "");

// Implementation of the integer templates below.
Value IntegerTo(std::function<void(absl::int128)> store, absl::int128 low, absl::int128 high,
                std::string_view placeholder);

// A whole number in [low, high], the limits of T included.
template <std::integral T>
Value NumberTo(std::function<void(T)> store, T low = 0, T high = std::numeric_limits<T>::max(),
               std::string_view placeholder = "N") {
  return IntegerTo([store = std::move(store)](absl::int128 n) { store(static_cast<T>(n)); }, low,
                   high, placeholder);
}

template <std::integral T>
Value Number(T* value, std::type_identity_t<T> low, std::type_identity_t<T> high,
             std::string_view placeholder = "N") {
  Value flag = NumberTo<T>([value](T n) { *value = n; }, low, high, placeholder);
  flag.initial = absl::StrCat(*value);
  return flag;
}

// One of several words, each with the value that it selects.
template <typename T>
Value Choice(T* value, std::vector<std::pair<std::string, T>> choices) {
  std::vector<std::string> words;
  std::string initial;
  for (const auto& [word, chosen] : choices) {
    words.push_back(word);
    if (chosen == *value) initial = word;
  }
  return WordTo([value, choices = std::move(choices)](size_t i) { *value = choices[i].second; },
                std::move(words), initial);
}

}  // namespace lectern::flags
