// A model for tests of everything above the model: no weights, but real pages.
//
// Every token writes its id and a running hash (of the token before it, itself and the policy) into
// its slot of a page, and every Forward() walks the whole chain from position 0: a page that is
// missing, stale, shared by mistake or read under another policy fails the call with INTERNAL.
// Tokens are bytes; the answer is a function of document and question as found in the pages.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "base/mutex.h"
#include "server/model/model.h"
#include "tests/testing/gate.h"

namespace lectern {

// One token a byte; special tokens above 255. Encode() passes a gate.
class FakeTokenizer : public Tokenizer {
 public:
  static constexpr int32_t kEos = 256;
  static constexpr int32_t kPrefix = 257;
  static constexpr int32_t kQuestion = 258;
  static constexpr int32_t kAnswer = 259;
  static constexpr int32_t kVocabulary = 260;

  int32_t vocab_size() const override { return kVocabulary; }
  int32_t eos_id() const override { return kEos; }
  int32_t FindToken(std::string_view) const override { return -1; }
  Encoding Encode(std::string_view text, bool parse_special) const override;
  std::string Decode(const std::vector<int32_t>& ids, bool skip_special) const override;
  bool IsSpecial(int32_t id) const override { return id >= kEos; }
  size_t longest_token_bytes() const override { return 1; }
  std::unique_ptr<StreamDecoder> NewStreamDecoder() const override;

  Gate& gate() const { return gate_; }

 private:
  mutable Gate gate_;
};

struct FakeModelOptions {
  std::string name = "fake";
  std::string fingerprint = "fake-fingerprint";
  int64_t context_length = 4096;
  int page_tokens = 16;
  AttentionPolicy default_policy = Policy();
  int64_t ffn_units = 0;
  std::vector<int32_t> end_ids = {FakeTokenizer::kEos};
  int32_t end_id = FakeTokenizer::kEos;  // the token with which the model ends an answer
  std::string end_text;
  // The answer to a question about a document. The default names a digest of both.
  std::function<std::string(const std::string& document, const std::string& question)> answer;

 private:
  static AttentionPolicy Policy();  // top-8 but in layer 0
};

// Thread-safe.
class FakeModel : public Model {
 public:
  explicit FakeModel(FakeModelOptions options = {});

  const ModelInfo& info() const override { return info_; }
  const FakeTokenizer& tokenizer() const override { return tokenizer_; }
  std::vector<int32_t> PromptPrefix() const override;
  QuestionSuffix PromptSuffix(std::string_view question) const override;
  std::unique_ptr<Workspace> NewWorkspace() const override;

  // Logits favour the next byte of the answer, then the end. Key mass: for every token of the slice
  // and every key, 1 if both are the same upper-case letter or digit, and 1/1024 to any key. Kept
  // mass of a query: k / (k + 1).
  absl::Status Forward(std::span<const ForwardSlice> slices, Workspace& workspace) const override;

  // The answer that the default gives.
  static std::string DefaultAnswer(const std::string& document, const std::string& question);

  // Every Forward() passes it, before it does anything.
  Gate& gate() const { return gate_; }
  // Tokens computed since construction.
  int64_t tokens_computed() const { return tokens_computed_; }
  // The next Forward() returns `status`.
  void FailNext(absl::Status status) const ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  absl::Status ForwardSliceOf(const ForwardSlice& slice) const;
  void WriteLogits(const std::vector<int32_t>& sequence, float* logits) const;

  const FakeModelOptions options_;
  ModelInfo info_;
  FakeTokenizer tokenizer_;
  mutable Gate gate_;
  mutable std::atomic<int64_t> tokens_computed_{0};
  mutable Mutex mutex_;
  mutable absl::Status fail_next_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
