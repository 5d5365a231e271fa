#include "server/tokenizer/bpe/bpe_merges.h"

#include <algorithm>
#include <map>

namespace lectern {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// A possible merge of the symbol at `at` with the next one, as they were when it was found.
struct Candidate {
  int32_t at;
  int32_t left;
  int32_t right;
  int32_t merged;
};

// The candidates of one rank, the leftmost first. They mostly arrive in that order, so they are a
// plain list until one does not.
class SameRank {
 public:
  bool empty() const { return first_ == items_.size(); }
  void Push(const Candidate& candidate) {
    if (!heap_ && !empty() && candidate.at < items_.back().at) {
      items_.erase(items_.begin(), items_.begin() + static_cast<ptrdiff_t>(first_));
      first_ = 0;
      std::make_heap(items_.begin(), items_.end(), Later);
      heap_ = true;
    }
    items_.push_back(candidate);
    if (heap_) std::push_heap(items_.begin(), items_.end(), Later);
  }
  Candidate Pop() {
    if (!heap_) return items_[first_++];
    std::pop_heap(items_.begin(), items_.end(), Later);
    const Candidate best = items_.back();
    items_.pop_back();
    return best;
  }

 private:
  static bool Later(const Candidate& a, const Candidate& b) { return a.at > b.at; }

  std::vector<Candidate> items_;
  size_t first_ = 0;
  bool heap_ = false;
};

}  // namespace

bool BpeMerges::Add(int32_t left, int32_t right, int32_t merged, int32_t rank) {
  return merges_.emplace(PairKey(left, right), Merge{rank, merged}).second;
}

const BpeMerges::Merge* BpeMerges::Find(int32_t left, int32_t right) const {
  if (left < 0 || right < 0) return nullptr;
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BpeMerges::Apply(std::vector<BpeSymbol>& symbols) const {
  const int32_t n = static_cast<int32_t>(symbols.size());
  if (n < 2) return;
  std::vector<int32_t> next(n), previous(n);
  for (int32_t i = 0; i < n; ++i) {
    next[i] = i + 1;
    previous[i] = i - 1;
  }
  std::map<int32_t, SameRank> ranks;  // none is empty
  const auto consider = [&](int32_t at) {
    if (at < 0 || next[at] >= n) return;
    const int32_t left = symbols[at].id, right = symbols[next[at]].id;
    if (const Merge* merge = Find(left, right)) {
      ranks[merge->rank].Push({at, left, right, merge->merged});
    }
  };
  for (int32_t i = 0; i + 1 < n; ++i) consider(i);
  std::vector<bool> gone(n, false);
  while (!ranks.empty()) {
    const auto rank = ranks.begin();
    const Candidate best = rank->second.Pop();
    if (rank->second.empty()) ranks.erase(rank);
    const int32_t at = best.at;
    // Either side may have been merged with something else in the meantime.
    if (gone[at] || next[at] >= n || symbols[at].id != best.left ||
        symbols[next[at]].id != best.right) {
      continue;
    }
    const int32_t other = next[at];
    symbols[at].id = best.merged;
    symbols[at].end = symbols[other].end;
    gone[other] = true;
    next[at] = next[other];
    if (next[at] < n) previous[next[at]] = at;
    consider(previous[at]);
    consider(at);
  }
  int32_t kept = 0;
  for (int32_t i = 0; i < n; ++i) {
    if (!gone[i]) symbols[kept++] = symbols[i];
  }
  symbols.resize(kept);
}

}  // namespace lectern
