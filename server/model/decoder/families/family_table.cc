#include <algorithm>
#include <iterator>

#include "server/model/decoder/families/decoder_family.h"

namespace lectern {
namespace {

// A line for each family. GGUF calls Mistral's architecture "llama", and OLMo 3's "olmo2".
constexpr DecoderFamily kFamilies[] = {
    {"llama", "LlamaForCausalLM", "llama", DescribeLlama},
    {"mistral", "MistralForCausalLM", "", DescribeMistral},
    {"ministral", "MinistralForCausalLM", "", DescribeMinistral},
    {"qwen2", "Qwen2ForCausalLM", "qwen2", DescribeQwen2},
    {"qwen3", "Qwen3ForCausalLM", "qwen3", DescribeQwen3},
    {"gemma2", "Gemma2ForCausalLM", "gemma2", DescribeGemma2},
    {"gemma3_text", "Gemma3ForCausalLM", "gemma3", DescribeGemma3},
    {"gemma3", "Gemma3ForConditionalGeneration", "", DescribeGemma3Nested, true},
    {"phi3", "Phi3ForCausalLM", "phi3", DescribePhi3},
    {"smollm3", "SmolLM3ForCausalLM", "smollm3", DescribeSmolLm3},
    {"granite", "GraniteForCausalLM", "granite", DescribeGranite},
    {"olmo2", "Olmo2ForCausalLM", "olmo2", DescribeOlmo2},
    {"olmo3", "Olmo3ForCausalLM", "", DescribeOlmo3},
};

// The family whose `field` is `name`; names are not empty.
const DecoderFamily* FindBy(std::string_view DecoderFamily::*field, std::string_view name) {
  if (name.empty()) return nullptr;
  const auto* found =
      std::find_if(std::begin(kFamilies), std::end(kFamilies),
                   [&](const DecoderFamily& family) { return family.*field == name; });
  return found == std::end(kFamilies) ? nullptr : found;
}

std::vector<std::string> NamesOf(std::string_view DecoderFamily::*field) {
  std::vector<std::string> names;
  for (const DecoderFamily& family : kFamilies) {
    if (!(family.*field).empty()) names.emplace_back(family.*field);
  }
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

const DecoderFamily* FindFamilyByModelType(std::string_view model_type) {
  return FindBy(&DecoderFamily::name, model_type);
}

const DecoderFamily* FindFamilyByArchitecture(std::string_view architecture) {
  return FindBy(&DecoderFamily::architecture, architecture);
}

std::vector<std::string> DecoderModelTypes() { return NamesOf(&DecoderFamily::name); }
std::vector<std::string> DecoderArchitectures() { return NamesOf(&DecoderFamily::architecture); }

}  // namespace lectern
