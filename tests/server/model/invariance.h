// Comparing bits: what the tests of invariance share.
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "tests/server/model/sequence.h"

namespace lectern::test {

// Describes how two lists of values differ; "" when all bits are equal.
std::string Difference(std::span<const float> got, std::span<const float> want);

// All bytes of all pages.
void ExpectSamePages(const Model& model, Sequence& got, Sequence& want);

// The logits of the last of `tokens`, and the statistics that an answer reports.
struct Outputs {
  std::vector<float> logits;
  KeptMass kept_mass;

  ForwardSlice Slice(const Model& model, Sequence& sequence, std::span<const int32_t> tokens) {
    logits.resize(model.info().vocabulary);
    ForwardSlice slice = sequence.Next(tokens);
    slice.logits = logits.data();
    slice.kept_mass = &kept_mass;
    return slice;
  }
};

// All of them, bit for bit.
void ExpectSame(const Outputs& got, const Outputs& want);

// Feeds tokens in slices of at most `slice_tokens`.
Outputs Feed(const Model& model, Sequence& sequence, std::span<const int32_t> tokens,
             int64_t slice_tokens = 512);

// A sequence that continues a document as a question does: the full pages are the document's own,
// the last one, when it is half filled, is a copy.
class Continuing {
 public:
  Continuing(const Model& model, Sequence& document)
      : own_(document.Copy()), position_(document.position()) {
    const size_t full = position_ / model.info().page_tokens;
    shared_.assign(document.pages().begin(), document.pages().begin() + full);
  }
  ForwardSlice Next(Outputs& outputs, const Model& model, std::span<const int32_t> tokens) {
    ForwardSlice slice = outputs.Slice(model, own_, tokens);
    pages_ = own_.pages();
    std::copy(shared_.begin(), shared_.end(), pages_.begin());
    slice.pages = pages_;
    return slice;
  }

 private:
  Sequence own_;
  int64_t position_;
  std::vector<std::byte*> shared_, pages_;
};

}  // namespace lectern::test
