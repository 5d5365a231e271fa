// Ends an answer before the first of its stop strings, without ever streaming a part of one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lectern {

// One per answer; not thread-safe.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Takes text in and returns what may be shown: all of it but an ending that could still become a
  // stop string. When one is complete, what stands before it; stopped() is then true.
  std::string Append(std::string_view text);
  // What was held back, at the end of an answer that did not stop.
  std::string Finish();

  bool stopped() const { return !found_.empty(); }
  const std::string& found() const { return found_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
  std::string found_;
};

}  // namespace lectern
