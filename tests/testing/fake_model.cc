#include "tests/testing/fake_model.h"

#include <algorithm>
#include <cctype>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hashing/sha256.h"
#include "base/status_macros.h"
#include "base/utf8.h"

namespace lectern {
namespace {

struct Slot {
  uint64_t hash;
  int64_t token;
};

uint64_t Mix(uint64_t before, int64_t token, const AttentionPolicy& policy) {
  uint64_t x = before ^ (static_cast<uint64_t>(token) + 0x9e3779b97f4a7c15u) ^
               (static_cast<uint64_t>(policy.top_k) << 32) ^
               (static_cast<uint64_t>(policy.dense_up_to) << 16) ^
               (policy.tail == AttentionPolicy::Tail::kMean ? uint64_t{1} << 63 : 0);
  for (const int64_t k : policy.layer_k) x = x * 31 + static_cast<uint64_t>(k);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;  // splitmix64 (Steele et al. 2014)
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

bool Tells(int64_t token) {
  return token < 128 &&
         (std::isupper(static_cast<int>(token)) != 0 || std::isdigit(static_cast<int>(token)) != 0);
}

std::string Bytes(std::vector<int32_t>::const_iterator begin,
                  std::vector<int32_t>::const_iterator end) {
  std::string text;
  for (; begin != end; ++begin) {
    if (*begin < 256) text.push_back(static_cast<char>(*begin));
  }
  return text;
}

class ByteStream : public StreamDecoder {
 public:
  std::string Append(int32_t id) override {
    if (id < 256) held_.push_back(static_cast<char>(id));
    const size_t whole = Utf8ValidPrefix(held_);
    std::string out = held_.substr(0, whole);
    held_.erase(0, whole);
    if (held_.size() >= 4) out += ReplaceInvalidUtf8(std::exchange(held_, ""));
    return out;
  }
  std::string Finish() override { return ReplaceInvalidUtf8(std::exchange(held_, "")); }

 private:
  std::string held_;
};

}  // namespace

Encoding FakeTokenizer::Encode(std::string_view text, bool /*parse_special*/) const {
  gate_.Pass();
  Encoding encoding;
  for (size_t i = 0; i < text.size(); ++i) {
    encoding.ids.push_back(static_cast<unsigned char>(text[i]));
    encoding.begin.push_back(static_cast<uint32_t>(i));
    encoding.end.push_back(static_cast<uint32_t>(i + 1));
  }
  return encoding;
}

std::string FakeTokenizer::Decode(const std::vector<int32_t>& ids, bool /*skip_special*/) const {
  return ReplaceInvalidUtf8(Bytes(ids.begin(), ids.end()));
}

std::unique_ptr<StreamDecoder> FakeTokenizer::NewStreamDecoder() const {
  return std::make_unique<ByteStream>();
}

AttentionPolicy FakeModelOptions::Policy() {
  return {.top_k = 8, .layer_k = {0}, .tail = AttentionPolicy::Tail::kMean};
}

FakeModel::FakeModel(FakeModelOptions options) : options_(std::move(options)) {
  info_.name = options_.name;
  info_.family = "fake";
  info_.format = "none";
  info_.quantization = "none";
  info_.numerics = "f32";
  info_.kv_cache = "f32";
  info_.fingerprint = options_.fingerprint;
  info_.context_length = options_.context_length;
  info_.vocabulary = FakeTokenizer::kVocabulary;
  info_.layers = 3;
  info_.page_tokens = options_.page_tokens;
  info_.page_bytes = (static_cast<size_t>(options_.page_tokens) * sizeof(Slot) + 63) / 64 * 64;
  info_.default_policy = options_.default_policy;
  info_.ffn_units = options_.ffn_units;
  info_.end_ids = options_.end_ids;
  info_.end_text = options_.end_text;
}

std::vector<int32_t> FakeModel::PromptPrefix() const {
  return {FakeTokenizer::kPrefix, FakeTokenizer::kPrefix, FakeTokenizer::kPrefix};
}

QuestionSuffix FakeModel::PromptSuffix(std::string_view question) const {
  QuestionSuffix tail{.ids = {FakeTokenizer::kQuestion}, .question_begin = 1};
  for (const char c : question) tail.ids.push_back(static_cast<unsigned char>(c));
  tail.question_end = tail.ids.size();
  tail.ids.push_back(FakeTokenizer::kAnswer);
  return tail;
}

std::unique_ptr<Workspace> FakeModel::NewWorkspace() const { return std::make_unique<Workspace>(); }

std::string FakeModel::DefaultAnswer(const std::string& document, const std::string& question) {
  return absl::StrCat("It is ", Sha256Hex(document + "\n" + question).substr(0, 12), ".");
}

void FakeModel::FailNext(absl::Status status) const {
  MutexLock lock(&mutex_);
  fail_next_ = std::move(status);
}

absl::Status FakeModel::Forward(std::span<const ForwardSlice> slices, Workspace&) const {
  gate_.Pass();
  {
    MutexLock lock(&mutex_);
    if (!fail_next_.ok()) return std::exchange(fail_next_, absl::OkStatus());
  }
  for (const ForwardSlice& slice : slices) LECTERN_RETURN_IF_ERROR(ForwardSliceOf(slice));
  return absl::OkStatus();
}

absl::Status FakeModel::ForwardSliceOf(const ForwardSlice& slice) const {
  const int64_t total = slice.position + static_cast<int64_t>(slice.tokens.size());
  const int64_t page_tokens = info_.page_tokens;
  if (slice.tokens.empty() || slice.policy == nullptr || total > info_.context_length ||
      static_cast<int64_t>(slice.pages.size()) * page_tokens < total) {
    return absl::InvalidArgumentError("slice out of range");
  }
  const auto slot = [&](int64_t t) {
    return reinterpret_cast<Slot*>(slice.pages[static_cast<size_t>(t / page_tokens)]) +
           t % page_tokens;
  };
  uint64_t hash = 0;
  std::vector<int32_t> sequence;
  for (int64_t t = 0; t < total; ++t) {
    if (t >= slice.position) {
      const int32_t token = slice.tokens[static_cast<size_t>(t - slice.position)];
      if (token < 0 || token >= info_.vocabulary) return absl::InvalidArgumentError("bad token");
      *slot(t) = {Mix(hash, token, *slice.policy), token};
    } else if (slot(t)->hash != Mix(hash, slot(t)->token, *slice.policy)) {
      return absl::InternalError(absl::StrCat("page of token ", t, " is not this sequence's"));
    }
    hash = slot(t)->hash;
    sequence.push_back(static_cast<int32_t>(slot(t)->token));
  }
  tokens_computed_ += static_cast<int64_t>(slice.tokens.size());

  if (slice.logits != nullptr) WriteLogits(sequence, slice.logits);
  if (slice.key_mass != nullptr) {
    for (const int32_t token : slice.tokens) {
      for (int64_t t = 0; t < total; ++t) {
        const bool same = sequence[static_cast<size_t>(t)] == token && Tells(token);
        slice.key_mass[t] += 1.0f / 1024 + (same ? 1.0f : 0.0f);
      }
    }
  }
  if (slice.kept_mass != nullptr && !slice.policy->IsExact(info_.layers)) {
    const double k = static_cast<double>(slice.policy->top_k);
    const double count = static_cast<double>(slice.tokens.size());
    slice.kept_mass->Add({.sum = count * k / (k + 1),
                          .min = k / (k + 1),
                          .count = static_cast<int64_t>(slice.tokens.size())});
  }
  return absl::OkStatus();
}

void FakeModel::WriteLogits(const std::vector<int32_t>& sequence, float* logits) const {
  const auto question = std::find(sequence.begin(), sequence.end(), FakeTokenizer::kQuestion);
  const auto answer = std::find(question, sequence.end(), FakeTokenizer::kAnswer);
  // A little of everything, so that sampling has something to choose from.
  for (int i = 0; i < info_.vocabulary; ++i) logits[i] = static_cast<float>((i * 7) % 13) / 13;
  if (answer == sequence.end()) return;
  const std::string document = Bytes(sequence.begin(), question);
  const std::string asked = Bytes(question, answer);
  const std::string text =
      options_.answer ? options_.answer(document, asked) : DefaultAnswer(document, asked);
  const size_t done = static_cast<size_t>(sequence.end() - answer) - 1;
  const int next = done < text.size() ? static_cast<unsigned char>(text[done])
                                      : static_cast<int>(options_.end_id);
  logits[next] = 5;
}

}  // namespace lectern
