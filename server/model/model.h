// The interface of a loaded model to the engine. It needs no LibTorch.
//
// A sequence is a table of KV pages (kernels/kv/kv_pages.h) that belong to the caller: page p holds
// tokens [p * page_tokens, (p + 1) * page_tokens) for all layers. A model never keeps a pointer to
// a page beyond the call. Pages hold no addresses: a page may be copied with memcpy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "server/model/attention_policy.h"
#include "server/tokenizer/tokenizer.h"

namespace lectern {

// How a model turns a document and a question into an answer.
enum class ModelKind {
  kGenerative,  // a decoder reads the document once, any number of questions follow it
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
  std::string numerics;      // how it computes: "f32", "int8-rotated" or "blocks"
  // Types of the file's matrices that "blocks" rounds to 8 bits, since no kernel takes their codes.
  std::vector<std::string> rounded_types;
  std::string kv_cache;  // how it keeps keys and values: "f32" or "int8"
  // Equal fingerprints: the same tokens give the same pages (weights, numerics, page layout,
  // prompt).
  std::string fingerprint;
  uint64_t parameters = 0;
  uint64_t weight_bytes = 0;
  absl::Duration load_time;  // from opening the files until the weights were in memory
  // Positions of document, question and answer together. For the other kinds: positions of one
  // window of question and document, and of a seq2seq model's answer.
  int64_t context_length = 0;
  int64_t vocabulary = 0;
  // Layers of attention, as AttentionPolicy::layer_k counts them. In a seq2seq model the encoder's
  // come first, then the decoder's self-attention, then its cross-attention.
  int layers = 0;
  int page_tokens = 0;
  size_t page_bytes = 0;  // a multiple of 64; pages must be 64-byte aligned
  AttentionPolicy default_policy;
  // For extractive models: there is no answer if the score of its window's first token exceeds the
  // best span's score by more than this (SQuAD 2). Unset: it always answers with a span.
  std::optional<double> no_answer_threshold;
  // How a generative model is prompted: the format's name, why it was chosen, and whether the model
  // has a chat template that is not known, so that the format is a guess.
  std::string prompt_format;
  std::string prompt_format_reason;
  bool prompt_format_guessed = false;
  // An answer ends at each of these ids (ascending; part of no answer's text), and before end_text
  // unless that is empty.
  std::vector<int32_t> end_ids;
  std::string end_text;
  int64_t ffn_units = 0;  // units of a feed-forward layer; 0: it has no top-k
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

// The part of the prompt that follows the document: ids[question_begin, question_end) are the
// question's tokens, the rest is the text that the chat template puts around them.
struct QuestionSuffix {
  std::vector<int32_t> ids;
  size_t question_begin = 0;
  size_t question_end = 0;
};

// The tokens around a part of the document in the input of an encoder. The question's tokens are
// `before`, or a part of it.
struct EncoderPrompt {
  std::vector<int32_t> before;
  std::vector<int32_t> after;
  size_t size() const { return before.size() + after.size(); }
};

// Consecutive tokens of one sequence in a Forward call. All memory belongs to the caller.
//
// A generative model has decoder slices only. A seq2seq model's encoder slice is one whole window,
// whose tokens all see each other; `position` and `pages` say where its keys and values for the
// decoder go: after those of earlier windows, in the sequence that decoder slices pass as `memory`.
// An extractive model's slice is one whole window; it has no pages.
struct ForwardSlice {
  std::span<const int32_t> tokens;  // at least one, each in [0, vocabulary)
  int64_t position = 0;             // of tokens[0]; keys and values of [0, position) are in `pages`
  std::span<std::byte* const> pages;  // cover position + tokens.size() tokens
  const AttentionPolicy* policy = nullptr;

  bool encode = false;                 // an encoder's window
  size_t document_begin = 0;           // first token of an extractive window after the question
  std::span<std::byte* const> memory;  // pages that a seq2seq decoder's cross-attention reads
  int64_t memory_tokens = 0;

  // Outputs, each optional.
  float* logits = nullptr;        // [vocabulary], for the last token
  float* all_logits = nullptr;    // [tokens, vocabulary]
  KeptMass* kept_mass = nullptr;  // adds the queries of this slice
  // Adds, for every key of [0, position + tokens.size()), the attention that all tokens of this
  // slice and all heads give to it in the layers that show evidence best
  // (docs/measurements/quality.md); in a seq2seq decoder, for every key of [0, memory_tokens).
  float* key_mass = nullptr;
  float* encoded = nullptr;      // [tokens, hidden]: the encoder's output
  float* span_begins = nullptr;  // [tokens]: scores of an extractive model
  float* span_ends = nullptr;    // [tokens]

  // Generative models only: computes key_mass and kept_mass alone, in the layers up to the last
  // that shows evidence. Keys and values of later layers are not computed, so only evidence-only
  // slices can continue the tokens.
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
  // document's tokens do not depend on the question. The question cannot forge a turn: special
  // tokens written out in it are ordinary text.
  // For generative models; empty for the others.
  virtual std::vector<int32_t> PromptPrefix() const { return {}; }
  virtual QuestionSuffix PromptSuffix(std::string_view /*question*/) const { return {}; }

  // For the other kinds: a window is  before | part of the document | after.
  virtual EncoderPrompt EncoderPromptOf(std::string_view /*question*/) const { return {}; }
  // The token that a seq2seq model's decoder begins with.
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
