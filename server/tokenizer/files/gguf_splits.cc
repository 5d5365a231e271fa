#include "server/tokenizer/files/gguf_splits.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_join.h"

namespace lectern {
namespace {

using Splits = std::vector<SplitRule>;

// Words of Llama 3 and its relatives, with at most `digits` digits in a number.
SplitRule Words(std::string_view digits) {
  std::string pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)";
  pattern += digits;
  pattern += R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  return {.pattern = pattern};
}

// Words that end where lower case becomes upper case (Mistral's Tekken, GPT-4o).
SplitRule CasedWords(std::string_view digits, std::string_view contractions) {
  std::string pattern;
  for (const std::string_view word :
       {R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)",
        R"([\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"}) {
    pattern += R"([^\r\n\p{L}\p{N}]?)";
    pattern += word;
    pattern += contractions;
    pattern += '|';
  }
  pattern += digits;
  pattern += R"(| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  return {.pattern = pattern};
}

Splits DeepSeekCoder() {
  return {{.pattern = R"([\r\n])"},
          {.pattern = R"(\s?\p{L}+)"},
          {.pattern = R"(\s?\p{P}+)"},
          {.pattern = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)"},
          SingleDigits()};
}

// Letters with a case, then punctuation of ASCII, of its full-width forms and of CJK.
Splits DeepSeekLlm() {
  return {
      {.pattern = R"([\r\n])"},
      {.pattern = R"(\s?[\p{Lu}\p{Ll}\p{Lt}]+)"},
      {.pattern =
           R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)"},
      {.pattern = R"(\s+$)"},
      {.pattern = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)"},
      {.pattern = R"(\p{N}+)"}};
}

Splits Falcon() {
  return {{.pattern = R"([\p{P}\$\+<=>\^~\|`]+)"}, Gpt2Words(), {.pattern = "[0-9][0-9][0-9]"}};
}

// Files from before April 2024, which name none.
Splits Unnamed() {
  return {{.pattern = R"([\p{P}\$\+<=>\^~\|]+)"},
          Gpt2Words(),
          {.pattern = R"(\p{N}+)"},
          {.pattern = "[0-9][0-9][0-9]"}};
}

using Table = std::map<std::string, GgufPreTokenizer, std::less<>>;

Table MakeTable() {
  Table table;
  const auto add = [&](std::initializer_list<const char*> names, const GgufPreTokenizer& entry) {
    for (const char* name : names) table.emplace(name, entry);
  };
  add({"gpt-2", "gpt2", "mpt", "olmo", "jais", "trillion", "granite-docling", "phi-2", "jina-es",
       "jina-de", "gigachat", "exaone4", "mellum", "modern-bert"},
      {.splits = {Gpt2Words()}});
  add({"smollm", "refact", "starcoder", "codeshell", "exaone", "minerva", "minerva-7b",
       "command-r"},
      {.splits = {SingleDigits(), Gpt2Words()}});
  add({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"},
      {.splits = {Words(R"(\p{N}{1,3})")}, .ignore_merges = true, .add_bos = true});
  add({"dbrx", "smaug-bpe"}, {.splits = {Words(R"(\p{N}{1,3})")}});
  add({"qwen2", "deepseek-r1-qwen"}, {.splits = {Words(R"(\p{N})")}, .nfc = true});
  add({"stablelm2", "megrez"}, {.splits = {Words(R"(\p{N})")}});
  add({"tekken"}, {.splits = {CasedWords(R"(\p{N})", "")}, .ignore_merges = true, .add_bos = true});
  add({"gpt-4o", "llama4"},
      {.splits = {CasedWords(R"(\p{N}{1,3})", R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?)")}});
  add({"deepseek-coder"}, {.splits = DeepSeekCoder()});
  add({"deepseek-llm"}, {.splits = DeepSeekLlm()});
  add({"falcon"}, {.splits = Falcon()});
  add({"default"}, {.splits = Unnamed()});
  return table;
}

const Table& Known() {
  static const Table& table = *new Table(MakeTable());
  return table;
}

}  // namespace

const GgufPreTokenizer* FindGgufPreTokenizer(std::string_view name) {
  const auto found = Known().find(name);
  return found == Known().end() ? nullptr : &found->second;
}

std::string GgufPreTokenizerNames() {
  return absl::StrJoin(Known(), ", ",
                       [](std::string* out, const auto& entry) { *out += entry.first; });
}

}  // namespace lectern
