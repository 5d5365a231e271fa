#include "server/formats/strict_json.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"

namespace lectern {
namespace {

// Reads the events of a parse without building anything; the first defect ends it.
class Checker final : public nlohmann::json_sax<nlohmann::json> {
 public:
  const std::string& error() const { return error_; }

  bool null() override { return Value(); }
  bool boolean(bool) override { return Value(); }
  bool number_integer(number_integer_t) override { return Value(); }
  bool number_unsigned(number_unsigned_t) override { return Value(); }
  bool number_float(number_float_t, const string_t&) override { return Value(); }
  bool string(string_t&) override { return Value(); }
  bool binary(binary_t&) override { return Value(); }
  bool start_object(std::size_t) override { return Enter(); }
  bool start_array(std::size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    if (keys_.back().insert(name).second) return true;
    return Fail(absl::StrCat("key '", Printable(name), "' occurs twice in one object"));
  }

  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception&) override {
    return Fail(absl::StrCat("breaks off or is malformed at byte ", position));
  }

 private:
  bool Fail(std::string why) {
    if (error_.empty()) error_ = std::move(why);
    return false;
  }

  bool Value() {
    if (++values_ <= kMaxJsonValues) return true;
    return Fail(absl::StrCat("holds more than ", kMaxJsonValues, " values"));
  }

  bool Enter() {
    if (keys_.size() >= static_cast<size_t>(kMaxJsonDepth)) {
      return Fail(absl::StrCat("is nested deeper than ", kMaxJsonDepth));
    }
    keys_.emplace_back();
    return Value();
  }

  bool Leave() {
    keys_.pop_back();
    return true;
  }

  std::string error_;
  size_t values_ = 0;
  std::vector<std::set<std::string>> keys_;  // one set per open object or array
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view contents, std::string_view file) {
  // The parser treats a zero byte as the end, so any text after it would go unseen.
  const size_t zero = contents.find('\0');
  if (zero != std::string_view::npos) {
    return InvalidFile({.file = file},
                       absl::StrCat("JSON breaks off or is malformed at byte ", zero));
  }
  Checker checker;
  if (!nlohmann::json::sax_parse(contents.begin(), contents.end(), &checker)) {
    return InvalidFile({.file = file}, absl::StrCat("JSON ", checker.error()));
  }
  auto json = nlohmann::json::parse(contents.begin(), contents.end(), nullptr, false);
  if (!json.is_object()) return InvalidFile({.file = file}, "JSON is not an object");
  return json;
}

absl::StatusOr<nlohmann::json> ParseConfigJson(std::string_view contents, std::string_view file) {
  if (contents.size() > kMaxConfigJsonBytes) {
    return InvalidFile({.file = file},
                       absl::StrCat(contents.size(), " bytes; at most ", kMaxConfigJsonBytes));
  }
  return ParseJsonObject(contents, file);
}

}  // namespace lectern
