#include "tests/server/model/invariance.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <sstream>

namespace lectern::test {

std::string Difference(std::span<const float> got, std::span<const float> want) {
  if (got.size() != want.size()) return "sizes differ";
  if (std::memcmp(got.data(), want.data(), got.size_bytes()) == 0) return "";
  size_t first = got.size(), count = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(&got[i], &want[i], sizeof(float)) == 0) continue;
    first = std::min(first, i);
    ++count;
  }
  std::ostringstream out;
  out.precision(9);
  out << count << " of " << got.size() << " values differ, first at " << first << ": " << got[first]
      << " and " << want[first];
  return out.str();
}

void ExpectSamePages(const Model& model, Sequence& got, Sequence& want) {
  ASSERT_EQ(got.pages().size(), want.pages().size());
  for (size_t i = 0; i < got.pages().size(); ++i) {
    EXPECT_EQ(std::memcmp(got.pages()[i], want.pages()[i], model.info().page_bytes), 0)
        << "page " << i;
  }
}

void ExpectSame(const Outputs& got, const Outputs& want) {
  EXPECT_EQ(Difference(got.logits, want.logits), "");
  EXPECT_EQ(got.kept_mass.sum, want.kept_mass.sum);
  EXPECT_EQ(got.kept_mass.min, want.kept_mass.min);
  EXPECT_EQ(got.kept_mass.count, want.kept_mass.count);
}

Outputs Feed(const Model& model, Sequence& sequence, std::span<const int32_t> tokens,
             int64_t slice_tokens) {
  const auto workspace = model.NewWorkspace();
  Outputs outputs;
  for (size_t first = 0; first < tokens.size(); first += slice_tokens) {
    const auto part = tokens.subspan(first, std::min<size_t>(slice_tokens, tokens.size() - first));
    const ForwardSlice slice = outputs.Slice(model, sequence, part);
    const absl::Status status = model.Forward({&slice, 1}, *workspace);
    EXPECT_TRUE(status.ok()) << status;
  }
  return outputs;
}

}  // namespace lectern::test
