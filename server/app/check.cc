#include "server/app/check.h"

#include <istream>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/model/loading/model_loader.h"

namespace lectern {
namespace {

using Json = nlohmann::ordered_json;

constexpr uint64_t kDocumentTokens = 1000;  // that memory is reported for

ModelLoadOptions OptionsOf(const Options& options, const std::string& name,
                           const std::string& path) {
  ModelLoadOptions load = options.load;
  load.name = name;
  load.path = path;
  load.threads = 1;
  if (options.device == DeviceKind::kCuda && load.numerics == ModelLoadOptions::Numerics::kAuto) {
    load.numerics = ModelLoadOptions::Numerics::kInt8Rotated;
  }
  const auto settings = options.settings.find(name);
  if (settings != options.settings.end()) load.settings = settings->second;
  return load;
}

std::string KindName(ModelKind kind) {
  switch (kind) {
    case ModelKind::kGenerative:
      return "generative";
    case ModelKind::kSeq2Seq:
      return "seq2seq";
    case ModelKind::kExtractive:
      return "extractive";
  }
  return "unknown";
}

// Bytes of the keys and values of a document of `tokens` tokens that is read whole.
uint64_t KvBytes(const ModelInfo& info, uint64_t tokens) {
  if (info.kind != ModelKind::kGenerative) return 0;
  const auto page_tokens = static_cast<uint64_t>(info.page_tokens);
  return (tokens + page_tokens - 1) / page_tokens * info.page_bytes;
}

Json Refusal(const std::string& name, const std::string& path, const absl::Status& status) {
  return {{"name", name},
          {"path", path},
          {"served", false},
          {"code", absl::StatusCodeToString(status.code())},
          {"error", std::string(status.message())}};
}

Json Described(const std::string& path, const ModelDescription& description) {
  const ModelInfo& info = description.info;
  Json ends = Json::array();
  for (const int32_t id : info.end_ids) {
    ends.push_back({{"id", id}, {"text", description.tokenizer->Decode({id}, false)}});
  }
  Json json = {{"name", info.name},
               {"path", path},
               {"served", true},
               {"family", info.family},
               {"kind", KindName(info.kind)},
               {"format", info.format},
               {"quantization", info.quantization},
               {"parameters", info.parameters},
               {"numerics", info.numerics},
               {"kv_cache", info.kv_cache},
               {"layers", info.layers},
               {"vocabulary", info.vocabulary},
               {"context_length", info.context_length},
               {"weight_bytes", info.weight_bytes},
               {"kv_bytes_per_1000_tokens", KvBytes(info, kDocumentTokens)}};
  if (!info.rounded_types.empty()) json["rounded_types"] = info.rounded_types;
  if (info.kind == ModelKind::kGenerative) {
    json["prompt_format"] = info.prompt_format;
    json["prompt_format_reason"] = info.prompt_format_reason;
    json["prompt_format_guessed"] = info.prompt_format_guessed;
  }
  if (info.kind != ModelKind::kExtractive) json["end_tokens"] = std::move(ends);
  if (!info.end_text.empty()) json["end_text"] = info.end_text;
  if (info.no_answer_threshold) json["no_answer_threshold"] = *info.no_answer_threshold;
  return json;
}

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

std::string MiB(uint64_t bytes) {
  return absl::StrCat(static_cast<double>(bytes * 10 / (uint64_t{1} << 20)) / 10, " MiB");
}

// "; Q2_K rounded to 8 bits", or nothing.
std::string RoundedTypes(const Json& json) {
  if (!json.contains("rounded_types")) return "";
  const auto types = json["rounded_types"].get<std::vector<std::string>>();
  return absl::StrCat("; ", absl::StrJoin(types, ", "), " rounded to 8 bits");
}

std::string TextOf(const Json& json) {
  const std::string head =
      absl::StrCat(json["name"].get<std::string>(), " (", json["path"].get<std::string>(), "): ");
  if (!json["served"].get<bool>()) {
    return absl::StrCat(head, "would not be served\n  ", json["code"].get<std::string>(), ": ",
                        json["error"].get<std::string>(), "\n");
  }
  const auto text = [&json](const char* key) { return json[key].get<std::string>(); };
  const auto number = [&json](const char* key) { return json[key].get<uint64_t>(); };
  std::string out = absl::StrCat(
      head, "would be served\n  family          ", text("family"), " (", text("kind"), "), ",
      number("layers"), " layers\n  file            ", text("format"), ", mostly ",
      text("quantization"), ", ", number("parameters"), " parameters\n  numerics        ",
      text("numerics"), ", keys and values ", text("kv_cache"), RoundedTypes(json),
      "\n  vocabulary      ", number("vocabulary"), " tokens\n  context length  ",
      number("context_length"), " tokens\n  memory          weights ", MiB(number("weight_bytes")),
      ", 1,000 document tokens ", MiB(number("kv_bytes_per_1000_tokens")), "\n");
  if (json.contains("prompt_format")) {
    absl::StrAppend(&out, "  prompt format   ", text("prompt_format"), ": ",
                    text("prompt_format_reason"),
                    json["prompt_format_guessed"].get<bool>() ? " (a guess)" : "", "\n");
  }
  if (json.contains("end_tokens")) {
    std::vector<std::string> ends;
    for (const Json& end : json["end_tokens"]) {
      ends.push_back(absl::StrCat(end["text"].get<std::string>(), " (", end["id"].get<int>(), ")"));
    }
    if (json.contains("end_text"))
      ends.push_back(absl::StrCat("the text ", Dump(json["end_text"])));
    absl::StrAppend(&out, "  answers end at  ", absl::StrJoin(ends, ", "), "\n");
  }
  if (json.contains("no_answer_threshold")) {
    absl::StrAppend(&out, "  no answer       if its score is ",
                    json["no_answer_threshold"].get<double>(), " above the best span's\n");
  }
  return out;
}

int Encode(const Options& options, std::istream& in, std::ostream& out, std::ostream& errors) {
  const auto& [name, path] = options.models[0];
  const auto tokenizer = LoadModelTokenizer(OptionsOf(options, name, path));
  if (!tokenizer.ok()) {
    errors << "lectern-server: " << tokenizer.status().message() << "\n";
    return kCheckNotServed;
  }
  std::string line;
  for (uint64_t number = 1; std::getline(in, line); ++number) {
    const Json text = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!text.is_string()) {
      errors << "lectern-server: --encode: line " << number << " is not a JSON string\n";
      return kCheckBadLine;
    }
    const Encoding encoding =
        (*tokenizer)->Encode(text.get<std::string>(), /*parse_special=*/false);
    out << Json(encoding.ids).dump() << "\n";
  }
  return kCheckServed;
}

}  // namespace

int RunCheck(const Options& options, std::istream& in, std::ostream& out, std::ostream& errors) {
  if (options.encode) return Encode(options, in, out, errors);
  int exit_status = kCheckServed;
  for (const auto& [name, path] : options.models) {
    const auto description = DescribeModel(OptionsOf(options, name, path));
    if (!description.ok()) exit_status = kCheckNotServed;
    const Json json = description.ok() ? Described(path, *description)
                                       : Refusal(name, path, description.status());
    out << (options.json ? Dump(json) + "\n" : TextOf(json));
  }
  return exit_status;
}

}  // namespace lectern
