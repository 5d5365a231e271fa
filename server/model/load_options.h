// Options for loading a model: its files, and how it computes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernels/runtime/execution_context.h"
#include "server/model/attention_policy.h"
#include "server/model/prompt/prompt_format.h"

namespace lectern {

class Int8Device;

// Settings of one model, each with a default that depends on the model. Flags give them as
// --FLAG=NAME=VALUE.
struct ModelSettings {
  // Whether a span reader may find no answer, and from which score difference on
  // (ModelInfo::no_answer_threshold).
  struct NoAnswer {
    std::optional<double> threshold;  // unset: it always answers with a span
  };
  std::optional<NoAnswer> no_answer;
  // Whether a T5 model reads questions and documents in lower case.
  std::optional<bool> lower_case;
  // How a decoder is prompted; unset: as its chat template says.
  std::optional<PromptFormat> prompt_format;
  // Positions that the model may read, at most its own, which 0 means. A decoder whose RoPE has
  // factors for short and for long contexts (longrope) takes the ones for this length.
  int64_t context_length = 0;
};

struct ModelLoadOptions {
  std::string name;
  std::string path;  // a .gguf file, or a folder with config.json and safetensors
  enum class Numerics {
    kF32,          // dequantised weights, fp32 everywhere: the reference
    kInt8Rotated,  // rotated, then int8 weights and activations; int8 keys and values
    kBlocks,       // weights in blocks of 32 with 4 to 8 bits, as a GGUF file has them where a
                   // kernel takes its codes (BlockFormOf); int8 activations, keys and values
    kAuto,         // kBlocks for quantised GGUF files that take less memory so than with int8
                   // or if the CPU lacks AVX-512 VNNI, else kInt8Rotated
  };
  Numerics numerics = Numerics::kAuto;
  int threads = 2;                           // for one Forward call, the caller's included
  kernels::Isa isa = kernels::DefaultIsa();  // class of CPU kernels
  // Computes int8 products of many rows (device/int8_device.h); null: the CPU does. The model
  // keeps it open. With a device kAuto means kInt8Rotated, and other numerics are refused.
  std::shared_ptr<Int8Device> device;
  AttentionPolicy default_policy = DefaultPolicy();
  ModelSettings settings;
};

// The words that flags of programs use: "auto", "blocks", "int8", "f32".
std::vector<std::pair<std::string, ModelLoadOptions::Numerics>> NumericsWords();

}  // namespace lectern
