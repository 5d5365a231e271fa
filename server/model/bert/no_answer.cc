#include "server/model/bert/no_answer.h"

#include <filesystem>
#include <vector>

#include "absl/strings/ascii.h"

namespace lectern {
namespace {

constexpr std::string_view kDataSet = "squad";

// The data set that a name mentions.
enum class Named { kNothing, kSquad1, kSquad2 };

Named NamedBy(std::string_view name) {
  const std::string lower = absl::AsciiStrToLower({name.data(), name.size()});
  Named named = Named::kNothing;
  for (size_t at = lower.find(kDataSet); at != std::string::npos; at = lower.find(kDataSet, at)) {
    at += kDataSet.size();
    const size_t version = lower.find_first_not_of("-_. v", at);
    if (version != std::string::npos && lower[version] == '2') return Named::kSquad2;
    named = Named::kSquad1;
  }
  return named;
}

// The name of a folder, and of the model whose snapshot it is in the hub's cache.
std::vector<std::string> NamesOf(const std::string& path) {
  std::error_code error;
  std::filesystem::path folder = std::filesystem::absolute(path, error).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();  // "FOLDER/"
  std::vector<std::string> names = {folder.filename()};
  if (folder.parent_path().filename() == "snapshots") {
    names.push_back(folder.parent_path().parent_path().filename());
  }
  return names;
}

}  // namespace

std::optional<double> NoAnswerThreshold(const ModelSettings& settings, const std::string& path,
                                        std::string_view trained_from) {
  if (settings.no_answer) return settings.no_answer->threshold;
  std::vector<std::string> names = NamesOf(path);
  names.push_back(std::filesystem::path(trained_from).filename());
  bool squad1 = false;
  for (const std::string& name : names) {
    const Named named = NamedBy(name);
    if (named == Named::kSquad2) return 0;
    squad1 = squad1 || named == Named::kSquad1;
  }
  if (squad1) return std::nullopt;
  return 0;
}

}  // namespace lectern
