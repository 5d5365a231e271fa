// A text after normalisation, which remembers where its bytes came from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lectern {

struct NormalizedText {
  std::string text;
  // For each byte of `text`, the bytes of the original that it stands for.
  std::vector<uint32_t> begin;
  std::vector<uint32_t> end;

  void Append(std::string_view bytes, size_t original_begin, size_t original_end) {
    text += bytes;
    begin.insert(begin.end(), bytes.size(), static_cast<uint32_t>(original_begin));
    end.insert(end.end(), bytes.size(), static_cast<uint32_t>(original_end));
  }
  void Truncate(size_t size) {
    text.resize(size);
    begin.resize(size);
    end.resize(size);
  }
};

}  // namespace lectern
