// A set of pieces of text, looked up by all their prefixes at once.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace lectern {

// Immutable after construction, thread-safe. One node for each distinct prefix of a piece.
class PieceTrie {
 public:
  PieceTrie() = default;
  // Non-empty pieces with their ids; of a duplicate piece, one id is used.
  explicit PieceTrie(std::vector<std::pair<std::string_view, int32_t>> pieces);

  bool empty() const { return nodes_.empty(); }

  // Calls `match(length, id)` for every piece that `text` begins with, the shortest first.
  template <typename Match>
  void Prefixes(std::string_view text, Match match) const {
    if (nodes_.empty()) return;
    uint32_t node = 0;
    for (size_t i = 0; i < text.size(); ++i) {
      node = Child(node, static_cast<unsigned char>(text[i]));
      if (node == 0) return;
      if (nodes_[node].id >= 0) match(i + 1, nodes_[node].id);
    }
  }

  // The longest piece that `text` begins with: its length (0: none) and id.
  std::pair<size_t, int32_t> Longest(std::string_view text) const {
    std::pair<size_t, int32_t> best = {0, -1};
    Prefixes(text, [&](size_t length, int32_t id) { best = {length, id}; });
    return best;
  }

 private:
  struct Node {
    uint32_t first_child = 0;  // the children of a node are neighbours
    uint16_t children = 0;
    int32_t id = -1;  // of the piece that ends here
  };

  uint32_t Child(uint32_t node, unsigned char label) const {
    const Node& parent = nodes_[node];
    const unsigned char* labels = labels_.data() + parent.first_child;
    uint32_t low = 0, high = parent.children;
    while (low < high) {
      const uint32_t middle = (low + high) / 2;
      if (labels[middle] < label) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    return low < parent.children && labels[low] == label ? parent.first_child + low : 0;
  }

  std::vector<Node> nodes_;            // nodes_[0] is the root
  std::vector<unsigned char> labels_;  // labels_[i] leads to nodes_[i]
};

}  // namespace lectern
