// Ends an answer before its first stop string, without ever streaming a part of one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lectern {

// One per answer; not thread-safe.
class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Takes in text and returns what may be shown: everything except an ending that could still
  // become a stop string. Once a stop string is complete, returns the text before it; stopped() is
  // then true.
  std::string Append(std::string_view text);
  // Returns the text held back, at the end of an answer that did not stop.
  std::string Finish();

  bool stopped() const { return !found_.empty(); }
  const std::string& found() const { return found_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;
  std::string found_;
};

}  // namespace lectern
