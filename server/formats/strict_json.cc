#include "server/formats/strict_json.h"

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/formats/file_error.h"
#include "server/formats/format_limits.h"

namespace lectern {
namespace {

using nlohmann::json;

// Builds a value from the events of a parse; the first defect ends it.
class Builder final : public nlohmann::json_sax<json> {
 public:
  const std::string& error() const { return error_; }
  json& root() { return root_; }

  bool null() override { return Add(nullptr) != nullptr; }
  bool boolean(bool value) override { return Add(value) != nullptr; }
  bool number_integer(number_integer_t value) override { return Add(value) != nullptr; }
  bool number_unsigned(number_unsigned_t value) override { return Add(value) != nullptr; }
  bool number_float(number_float_t value, const string_t&) override {
    return Add(value) != nullptr;
  }
  bool string(string_t& value) override { return Add(std::move(value)) != nullptr; }
  bool binary(binary_t&) override { return Fail("holds binary data"); }
  bool start_object(std::size_t) override { return Enter(json::value_t::object); }
  bool start_array(std::size_t) override { return Enter(json::value_t::array); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& name) override {
    const auto [member, added] = open_.back()->get_ref<json::object_t&>().try_emplace(name);
    if (!added) return Fail(absl::StrCat("key '", Printable(name), "' occurs twice in one object"));
    member_ = &member->second;
    return true;
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

  // The value in its place, or null.
  template <typename Value>
  json* Add(Value&& value) {
    if (++values_ > kMaxJsonValues) {
      Fail(absl::StrCat("holds more than ", kMaxJsonValues, " values"));
      return nullptr;
    }
    json* place = &root_;
    if (!open_.empty() && open_.back()->is_array()) {
      place = &open_.back()->get_ref<json::array_t&>().emplace_back();
    } else if (!open_.empty()) {
      place = member_;
    }
    *place = std::forward<Value>(value);
    return place;
  }

  bool Enter(json::value_t type) {
    if (open_.size() >= static_cast<size_t>(kMaxJsonDepth)) {
      return Fail(absl::StrCat("is nested deeper than ", kMaxJsonDepth));
    }
    json* const place = Add(json(type));
    if (place == nullptr) return false;
    open_.push_back(place);
    return true;
  }

  bool Leave() {
    open_.pop_back();
    return true;
  }

  std::string error_;
  size_t values_ = 0;
  json root_;
  std::vector<json*> open_;  // each inside the one before
  json* member_ = nullptr;   // of the innermost object: its value follows
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(std::string_view contents, std::string_view file) {
  // The parser treats a zero byte as the end, so any text after it would go unseen.
  const size_t zero = contents.find('\0');
  if (zero != std::string_view::npos) {
    return InvalidFile({.file = file},
                       absl::StrCat("JSON breaks off or is malformed at byte ", zero));
  }
  Builder builder;
  if (!json::sax_parse(contents.begin(), contents.end(), &builder)) {
    return InvalidFile({.file = file}, absl::StrCat("JSON ", builder.error()));
  }
  if (!builder.root().is_object()) return InvalidFile({.file = file}, "JSON is not an object");
  return std::move(builder.root());
}

absl::StatusOr<nlohmann::json> ParseConfigJson(std::string_view contents, std::string_view file) {
  if (contents.size() > kMaxConfigJsonBytes) {
    return InvalidFile({.file = file},
                       absl::StrCat(contents.size(), " bytes; at most ", kMaxConfigJsonBytes));
  }
  return ParseJsonObject(contents, file);
}

}  // namespace lectern
