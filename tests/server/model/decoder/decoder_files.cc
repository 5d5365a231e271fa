#include "tests/server/model/decoder/decoder_files.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_replace.h"

namespace lectern::test {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

Json ReadJson(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  // Python writes a gap between no scores as Infinity.
  return Json::parse(
      absl::StrReplaceAll(text.str(), {{": Infinity", ": null"}, {":Infinity", ":null"}}));
}

// "dense"; "k8": the 8 best keys of every layer; "k8_tail_mean": the rest as the mean value.
AttentionPolicy PolicyOf(const std::string& variant) {
  if (variant == "dense") return AttentionPolicy::Exact();
  constexpr std::string_view kMean = "_tail_mean";
  const bool mean = variant.ends_with(kMean);
  const std::string keys = variant.substr(0, variant.size() - (mean ? kMean.size() : 0));
  int64_t k = 0;
  if (!keys.starts_with('k') || !absl::SimpleAtoi(keys.substr(1), &k)) {
    std::cerr << "a variant that this test does not know: " << variant << "\n";
    std::abort();
  }
  return {.top_k = k,
          .layer_k = {},
          .tail = mean ? AttentionPolicy::Tail::kMean : AttentionPolicy::Tail::kNone};
}

DecoderVariant VariantOf(const std::string& name, const Json& expected) {
  DecoderVariant variant{.name = name, .policy = PolicyOf(name)};
  expected.at("positions").get_to(variant.positions);
  expected.at("logits").get_to(variant.logits);
  expected.at("id_step").get_to(variant.id_step);
  expected.at("argmax").get_to(variant.argmax);
  expected.at("margin").get_to(variant.margin);
  if (expected.contains("last_logits")) expected["last_logits"].get_to(variant.last_logits);
  if (expected.contains("greedy_ids")) expected["greedy_ids"].get_to(variant.greedy_ids);
  variant.tolerance = {expected.at("tolerance").at("atol"), expected.at("tolerance").at("rtol")};
  return variant;
}

std::vector<DecoderVariant> VariantsOf(const Json& expected) {
  std::vector<DecoderVariant> variants;
  for (const auto& [name, values] : expected.items()) variants.push_back(VariantOf(name, values));
  return variants;
}

std::string TestName(std::string name) {
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return !std::isalnum(c); }, '_');
  return name;
}

// The files of one case.
class CaseReader {
 public:
  CaseReader(fs::path folder, std::vector<DecoderFile>& files)
      : folder_(std::move(folder)), json_(ReadJson(folder_ / "expected.json")), files_(files) {}

  void Read() {
    if (!json_.contains("prompt_ids")) return;  // a reader
    const Json longrope = json_.value("longrope", Json::object());
    // `variants` may hold for a context that needs no long factors.
    if (longrope.value("variants_use", "") == "short factors") {
      context_length_ = longrope.at("original_max_position_embeddings");
    }
    const bool folder = fs::exists(folder_ / "model.safetensors") ||
                        fs::exists(folder_ / "model.safetensors.index.json");
    if (folder) {
      Add("", folder_, VariantsOf(json_.at("variants")));
      if (json_.contains("variants_with_long_factors")) {
        DecoderFile& file =
            Add("_long_factors", folder_, VariantsOf(json_["variants_with_long_factors"]));
        file.context_length = 0;
      }
    }
    const Json ggufs = json_.value("gguf", Json::object());
    for (const auto& [name, gguf] : ggufs.items()) {
      if (gguf.is_object()) AddGguf(name, gguf);
    }
  }

 private:
  DecoderFile& Add(const std::string& name, const fs::path& path,
                   std::vector<DecoderVariant> variants) {
    files_.push_back({.name = TestName(folder_.filename().string() + name),
                      .path = path,
                      .context_length = context_length_,
                      .prompt = json_.at("prompt_ids").get<std::vector<int32_t>>(),
                      .variants = std::move(variants)});
    return files_.back();
  }

  void AddGguf(const std::string& name, const Json& gguf) {
    // Equal weights give equal results under every policy.
    std::vector<DecoderVariant> variants;
    if (gguf.contains("same_as")) {
      variants = VariantsOf(json_.at("variants"));
    } else {
      variants.push_back(VariantOf("dense", gguf));
    }
    const std::string first_part = gguf.at("files").at(0);
    DecoderFile& file = Add("_" + name, folder_ / first_part, std::move(variants));
    file.quantised = gguf.contains("types");
  }

  const fs::path folder_;
  const Json json_;
  std::vector<DecoderFile>& files_;
  int64_t context_length_ = 0;
};

}  // namespace

const DecoderVariant& DecoderFile::dense() const {
  return *std::find_if(variants.begin(), variants.end(),
                       [](const DecoderVariant& variant) { return variant.name == "dense"; });
}

void PrintTo(const DecoderFile& file, std::ostream* out) { *out << file.path; }

std::vector<DecoderFile> DecoderFiles() {
  std::vector<fs::path> folders;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(GoldenDir() / "decoders", error)) {
    if (fs::exists(entry.path() / "expected.json")) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end());
  std::vector<DecoderFile> files;
  for (const fs::path& folder : folders) CaseReader(folder, files).Read();
  return files;
}

}  // namespace lectern::test
