// A loaded model, as the engine sees it. Pure interface: the engine and its tests need no LibTorch.
//
// A sequence is a table of KV pages (kernels/kv/kv_pages.h) that belong to the caller: page p holds
// tokens [p * page_tokens, (p + 1) * page_tokens) for all layers. A model never keeps a pointer to
// a page beyond the call. Pages hold no addresses: a page may be copied with memcpy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "server/model/attention_policy.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// What a model does with a document and a question.
enum class ModelKind {
  kGenerative,  // a decoder reads the document once, then any number of questions behind it
  kSeq2Seq,     // an encoder reads windows of question and document, a decoder writes an answer
  kExtractive,  // an encoder reads such windows and scores where an answer begins and ends
};

// Constant after loading.
struct ModelInfo {
  std::string name;
  std::string family;  // "llama", "t5", "bert"
  ModelKind kind = ModelKind::kGenerative;
  std::string format;        // "gguf", "safetensors"
  std::string quantization;  // of the file, e.g. "Q4_1"
  std::string numerics;      // how it computes: "f32" or "int8-rotated"
  std::string kv_cache;      // how it keeps keys and values: "f32" or "int8"
  // Equal fingerprints: the same tokens give the same pages (weights, numerics, page layout,
  // prompt).
  std::string fingerprint;
  uint64_t parameters = 0;
  uint64_t weight_bytes = 0;
  // Positions: document, question and answer together; of the other kinds, those of one window of
  // question and document (and of a seq2seq model's answer).
  int64_t context_length = 0;
  int64_t vocabulary = 0;
  // Layers of attention, as AttentionPolicy::layer_k counts them. In a seq2seq model first the
  // encoder's, then the decoder's own, then those that look at what was encoded.
  int layers = 0;
  int page_tokens = 0;
  size_t page_bytes = 0;  // a multiple of 64; pages must be 64-byte aligned
  AttentionPolicy default_policy;
  int64_t ffn_units = 0;  // of a feed-forward layer; 0: it has no top-k
};

// Statistics of the kept softmax mass m over queries of layers that are not dense.
struct KeptMass {
  double sum = 0;
  double min = 1;
  int64_t count = 0;  // 0: everything was dense
  void Add(const KeptMass& other) {
    sum += other.sum;
    min = other.min < min ? other.min : min;
    count += other.count;
  }
};

// What stands behind the document in the prompt: ids[question_begin, question_end) are the
// question's own tokens, the rest is the frame that the chat template puts around them.
struct QuestionSuffix {
  std::vector<int32_t> ids;
  size_t question_begin = 0;
  size_t question_end = 0;
};

// What stands around a part of the document in the input of an encoder. The question's own tokens
// are `before`, or a part of it.
struct EncoderPrompt {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  size_t size() const { return before.size() + after.size(); }
};

// Consecutive tokens of one sequence in a Forward call. All memory belongs to the caller.
//
// A generative model has slices of decoders alone. A seq2seq model's encoder slice is one whole
// window, whose tokens all see each other; `position` and `pages` say where its keys and values for
// the decoder go, behind those of the windows before it, in the sequence that decoder slices name
// as `memory`. An extractive model's slice is one whole window; it has no pages.
struct ForwardSlice {
  std::span<const int32_t> tokens;  // at least one, each in [0, vocabulary)
  int64_t position = 0;             // of tokens[0]; keys and values of [0, position) are in `pages`
  std::span<std::byte* const> pages;  // cover position + tokens.size() tokens
  const AttentionPolicy* policy = nullptr;

  bool encode = false;        // an encoder's window
  size_t document_begin = 0;  // of an extractive window: the first token that is no question
  std::span<std::byte* const> memory;  // of a seq2seq decoder: what was encoded
  int64_t memory_tokens = 0;

  // Outputs, each optional.
  float* logits = nullptr;        // [vocabulary], of the last token
  float* all_logits = nullptr;    // [tokens, vocabulary]
  KeptMass* kept_mass = nullptr;  // adds the queries of this slice
  // Adds, for every key of [0, position + tokens.size()), the attention that all tokens of this
  // slice and all heads give to it in the layers that tell evidence best
  // (docs/measurements/quality.md); of a seq2seq decoder, for every key of [0, memory_tokens).
  float* key_mass = nullptr;
  float* encoded = nullptr;      // [tokens, hidden]: what an encoder makes of its window
  float* span_begins = nullptr;  // [tokens]: scores of an extractive model
  float* span_ends = nullptr;    // [tokens]

  // Of a generative model: key_mass and kept_mass are all that is wanted, of the layers up to the
  // last that tells evidence. Keys and values of those behind it are not computed, so the tokens
  // cannot be continued, but by slices of the same kind.
  bool evidence_only = false;
};

// Scratch memory of one thread that calls Forward; grows to the largest call and is then reused.
class Workspace {
 public:
  virtual ~Workspace() = default;
};

// Const after loading; every method may be called from any thread.
class Model {
 public:
  virtual ~Model() = default;

  virtual const ModelInfo& info() const = 0;
  virtual const Tokenizer& tokenizer() const = 0;

  // The prompt is  Prefix | document | Suffix(question), each part tokenised on its own so that the
  // document's tokens do not depend on the question. The question can not forge a turn: special
  // tokens written out in it are ordinary text.
  // Of generative models; empty for the others.
  virtual std::vector<int32_t> PromptPrefix() const { return {}; }
  virtual QuestionSuffix PromptSuffix(std::string_view /*question*/) const { return {}; }

  // Of the other kinds: a window is  before | part of the document | after.
  virtual EncoderPrompt EncoderPromptOf(std::string_view /*question*/) const { return {}; }
  // Of a seq2seq model: the token that its decoder begins with.
  virtual int32_t decoder_start() const { return 0; }

  virtual std::unique_ptr<Workspace> NewWorkspace() const = 0;

  // Computes keys and values of every slice's tokens into its pages, and the outputs asked for. The
  // results of a slice do not depend on the other slices, nor on how a sequence is cut into slices;
  // slices of one sequence come in its order.
  // INVALID_ARGUMENT for tokens, positions or pages out of range; INTERNAL for a failed kernel.
  virtual absl::Status Forward(std::span<const ForwardSlice> slices,
                               Workspace& workspace) const = 0;
};

}  // namespace lectern
