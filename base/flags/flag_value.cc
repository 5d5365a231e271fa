#include "base/flags/flag_value.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <span>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace lectern::flags {
namespace {

constexpr absl::Duration kMaxDuration = absl::Hours(24 * 365);

struct Unit {
  const char* suffix;
  uint64_t factor;
};

// Largest first, so that formatting takes the first one that divides.
constexpr Unit kByteUnits[] = {
    {"GiB", uint64_t{1} << 30}, {"MiB", uint64_t{1} << 20}, {"KiB", uint64_t{1} << 10}};
constexpr Unit kCountUnits[] = {{"Gi", uint64_t{1} << 30}, {"G", 1'000'000'000},
                                {"Mi", uint64_t{1} << 20}, {"M", 1'000'000},
                                {"Ki", uint64_t{1} << 10}, {"k", 1'000}};

std::optional<uint64_t> ParseQuantity(const std::string& text) {
  absl::string_view digits = text;
  uint64_t factor = 1;
  for (const auto& units :
       {std::span<const Unit>(kByteUnits), std::span<const Unit>(kCountUnits)}) {
    for (const Unit& unit : units) {
      if (factor != 1 || !absl::EndsWith(text, unit.suffix)) continue;
      factor = unit.factor;
      digits.remove_suffix(std::string_view(unit.suffix).size());
    }
  }
  uint64_t number = 0;
  uint64_t result = 0;
  if (!absl::SimpleAtoi(digits, &number) || __builtin_mul_overflow(number, factor, &result)) {
    return std::nullopt;
  }
  return result;
}

std::string FormatQuantity(uint64_t number, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (number >= unit.factor && number % unit.factor == 0) {
      return absl::StrCat(number / unit.factor, unit.suffix);
    }
  }
  return absl::StrCat(number);
}

Value Quantity(uint64_t* value, uint64_t low, uint64_t high, std::string_view placeholder,
               std::span<const Unit> units, const std::string& allowed) {
  return {.placeholder = std::string(placeholder),
          .initial = FormatQuantity(*value, units),
          .set = [=](const std::string& text) -> std::string {
            const std::optional<uint64_t> number = ParseQuantity(text);
            if (!number || *number < low || *number > high) return allowed;
            *value = *number;
            return "";
          }};
}

}  // namespace

Value Required(Value value) {
  value.required = true;
  return value;
}

Value Repeatable(Value value) {
  value.repeatable = true;
  return value;
}

Value SwitchTo(std::function<void()> store) {
  return {.placeholder = "", .initial = "", .set = [store = std::move(store)](const std::string&) {
            store();
            return std::string();
          }};
}

Value Switch(bool* value) {
  return SwitchTo([value] { *value = true; });
}

Value Boolean(bool* value) { return Choice<bool>(value, {{"true", true}, {"false", false}}); }

Value Text(std::string* value, std::string_view placeholder) {
  Value flag = AnyText(value, placeholder);
  flag.set = [value](const std::string& text) -> std::string {
    if (text.empty()) return "must not be empty";
    *value = text;
    return "";
  };
  return flag;
}

Value AnyText(std::string* value, std::string_view placeholder) {
  return {.placeholder = std::string(placeholder),
          .initial = *value,
          .set = [value](const std::string& text) {
            *value = text;
            return std::string();
          }};
}

Value Bytes(uint64_t* value, uint64_t low, uint64_t high) {
  return Quantity(value, low, high, "BYTES", kByteUnits,
                  absl::StrCat("must be a number of bytes from ", low, " to ", high,
                               ", written as 1073741824, 512MiB or 4GiB"));
}

Value Count(uint64_t* value, uint64_t low, uint64_t high) {
  return Quantity(value, low, high, "N", kCountUnits,
                  absl::StrCat("must be a whole number from ", low, " to ", high,
                               ", written as 65536, 64k (thousands) or 64Ki (1,024s)"));
}

Value Duration(absl::Duration* value, absl::Duration low) {
  return {
      .placeholder = "DURATION",
      .initial = absl::FormatDuration(*value),
      .set = [=](const std::string& text) -> std::string {
        absl::Duration duration;
        if (!absl::ParseDuration(text, &duration) || duration < low || duration > kMaxDuration) {
          return absl::StrCat("must be a duration from ", absl::FormatDuration(low), " to ",
                              absl::FormatDuration(kMaxDuration), ", written as 500ms, 30s or 2h");
        }
        *value = duration;
        return "";
      }};
}

Value SecondsTo(std::function<void(absl::Duration)> store) {
  return {.placeholder = "SECONDS",
          .initial = "",
          .set = [store = std::move(store)](const std::string& text) -> std::string {
            absl::Duration duration;
            double seconds = 0;
            if (absl::SimpleAtod(text, &seconds) && std::isfinite(seconds)) {
              duration = absl::Seconds(seconds);
            } else if (!absl::ParseDuration(text, &duration)) {
              duration = absl::ZeroDuration();
            }
            if (duration <= absl::ZeroDuration() || duration > absl::Seconds(1'000'000'000)) {
              return "must be seconds above 0 and up to 1000000000, written as 2.5, 500ms or 2h";
            }
            store(duration);
            return "";
          }};
}

Value Seconds(absl::Duration* value) {
  Value flag = SecondsTo([value](absl::Duration duration) { *value = duration; });
  if (*value != absl::InfiniteDuration()) flag.initial = absl::FormatDuration(*value);
  return flag;
}

Value RealTo(std::function<void(double)> store, double low, double high,
             std::string_view placeholder) {
  return {.placeholder = std::string(placeholder),
          .initial = "",
          .set = [=, store = std::move(store)](const std::string& text) -> std::string {
            double number = 0;
            if (!absl::SimpleAtod(text, &number) || !(number >= low && number <= high)) {
              return absl::StrCat("must be a number from ", low, " to ", high);
            }
            store(number);
            return "";
          }};
}

Value Real(double* value, double low, double high, std::string_view placeholder) {
  Value flag = RealTo([value](double number) { *value = number; }, low, high, placeholder);
  flag.initial = absl::StrCat(*value);
  return flag;
}

Value IntegersTo(std::function<void(const std::vector<int64_t>&)> store, int64_t low, int64_t high,
                 std::string_view placeholder) {
  return {.placeholder = std::string(placeholder),
          .initial = "",
          .set = [=, store = std::move(store)](const std::string& text) -> std::string {
            std::vector<int64_t> numbers;
            for (const auto& part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
              int64_t number = 0;
              if (!absl::SimpleAtoi(part, &number) || number < low || number > high) {
                return absl::StrCat("must be whole numbers from ", low, " to ", high,
                                    ", separated by commas");
              }
              numbers.push_back(number);
            }
            store(numbers);
            return "";
          }};
}

Value Integers(std::vector<int64_t>* value, int64_t low, int64_t high,
               std::string_view placeholder) {
  Value flag = IntegersTo([value](const std::vector<int64_t>& numbers) { *value = numbers; }, low,
                          high, placeholder);
  flag.initial = absl::StrJoin(*value, ",");
  return flag;
}

Value WordTo(std::function<void(size_t index)> store, std::vector<std::string> words,
             std::string_view initial) {
  std::string placeholder = absl::StrJoin(words, "|");
  return {.placeholder = std::move(placeholder),
          .initial = std::string(initial),
          .set = [store = std::move(store),
                  words = std::move(words)](const std::string& text) -> std::string {
            const auto found = std::find(words.begin(), words.end(), text);
            if (found == words.end()) {
              return absl::StrCat("must be one of ", absl::StrJoin(words, ", "));
            }
            store(static_cast<size_t>(found - words.begin()));
            return "";
          }};
}

Value IntegerTo(std::function<void(absl::int128)> store, absl::int128 low, absl::int128 high,
                std::string_view placeholder) {
  return {.placeholder = std::string(placeholder),
          .initial = "",
          .set = [=, store = std::move(store)](const std::string& text) -> std::string {
            absl::int128 number = 0;
            if (!absl::SimpleAtoi(text, &number) || number < low || number > high) {
              // The limits are those of 64-bit types; int128 itself has no StrCat in LTS 20220623.
              const auto shown = [](absl::int128 limit) {
                return limit < 0 ? absl::StrCat(static_cast<int64_t>(limit))
                                 : absl::StrCat(static_cast<uint64_t>(limit));
              };
              return absl::StrCat("must be a whole number from ", shown(low), " to ", shown(high));
            }
            store(number);
            return "";
          }};
}

}  // namespace lectern::flags
