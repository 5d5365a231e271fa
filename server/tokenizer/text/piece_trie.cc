#include "server/tokenizer/text/piece_trie.h"

#include <algorithm>
#include <cstddef>

namespace lectern {

PieceTrie::PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces) {
  if (pieces.empty()) return;
  std::sort(pieces.begin(), pieces.end());
  // Level by level: the pieces [begin, end) share the first `depth` bytes, which lead to `node`.
  struct Range {
    size_t begin, end, depth;
    uint32_t node;
  };
  std::vector<Range> level = {{0, pieces.size(), 0, 0}};
  nodes_.emplace_back();
  labels_.push_back(0);
  while (!level.empty()) {
    std::vector<Range> next;
    for (Range range : level) {
      while (range.begin < range.end && pieces[range.begin].first.size() == range.depth) {
        nodes_[range.node].id = pieces[range.begin++].second;
      }
      nodes_[range.node].first_child = static_cast<uint32_t>(nodes_.size());
      for (size_t begin = range.begin; begin < range.end;) {
        const char label = pieces[begin].first[range.depth];
        size_t end = begin + 1;
        while (end < range.end && pieces[end].first[range.depth] == label) ++end;
        next.push_back({begin, end, range.depth + 1, static_cast<uint32_t>(nodes_.size())});
        nodes_[range.node].children++;
        nodes_.emplace_back();
        labels_.push_back(static_cast<unsigned char>(label));
        begin = end;
      }
    }
    level = std::move(next);
  }
}

}  // namespace lectern
