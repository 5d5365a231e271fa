// vocab.json and merges.txt: the two files that tokenizer.json of type BPE holds as one.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "server/formats/strict_json.h"
#include "server/tokenizer/files/tokenizer_files.h"
#include "server/tokenizer/files/tokenizer_json_parts.h"

namespace lectern {
namespace {

using nlohmann::json;

// Reads the lines "left right" that follow "#version: ...".
json MergesOf(std::string_view contents) {
  json merges = json::array();
  bool first = true;
  while (!contents.empty()) {
    const size_t end = std::min(contents.find('\n'), contents.size());
    std::string_view line = contents.substr(0, end);
    contents.remove_prefix(std::min(end + 1, contents.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    const bool heading = std::exchange(first, false) && line.starts_with("#version");
    if (!line.empty() && !heading) merges.push_back(std::string(line));
  }
  return merges;
}

}  // namespace

absl::StatusOr<BpeConfig> ParseVocabJson(std::string_view vocabulary, std::string source,
                                         std::string_view merges, std::string_view settings_json,
                                         std::string settings_source) {
  LECTERN_ASSIGN_OR_RETURN(json tokens, ParseJsonObject(vocabulary, source));
  std::vector<AddedToken> added;
  bool prefix_space = false;
  if (!settings_json.empty()) {
    LECTERN_ASSIGN_OR_RETURN(const json settings, ParseJsonObject(settings_json, settings_source));
    LECTERN_RETURN_IF_ERROR(ReadAddedTokensDecoder(settings, settings_source, added));
    prefix_space = Flag(settings, "add_prefix_space", false);
  }
  json root = {{"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", prefix_space}}}};
  json& all = root["added_tokens"] = json::array();
  for (const AddedToken& token : added) {
    all.push_back({{"content", token.text}, {"id", token.id}, {"special", token.special}});
  }
  for (const char* text : {"<s>", "<pad>", "</s>", "<unk>", "<mask>"}) {
    const bool listed = std::any_of(added.begin(), added.end(),
                                    [&](const AddedToken& token) { return token.text == text; });
    const json* id = Child(tokens, text);
    if (listed || id == nullptr) continue;
    all.push_back({{"content", text}, {"id", *id}, {"special", true}});
  }
  root["model"] = {{"type", "BPE"}, {"vocab", std::move(tokens)}, {"merges", MergesOf(merges)}};
  return ReadBpeJson(root, source, /*eos_id=*/-1);
}

}  // namespace lectern
