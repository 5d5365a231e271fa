// Rewrites small model folders for tests: safetensors files as maps of tensors, and whole files.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>

namespace lectern::test {

inline std::string FileContents(const std::filesystem::path& file) {
  std::stringstream contents;
  contents << std::ifstream(file, std::ios::binary).rdbuf();
  return contents.str();
}

inline void WriteFile(const std::filesystem::path& file, const std::string& contents) {
  std::ofstream(file, std::ios::binary) << contents;
}

// Maps a tensor's name to its entry in the header and its bytes.
using TensorMap = std::map<std::string, std::pair<nlohmann::json, std::string>>;

inline TensorMap ReadTensors(const std::filesystem::path& file) {
  const std::string bytes = FileContents(file);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  const auto header = nlohmann::json::parse(bytes.substr(8, header_bytes));
  TensorMap tensors;
  for (const auto& [name, tensor] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t begin = tensor["data_offsets"][0], end = tensor["data_offsets"][1];
    tensors[name] = {tensor, bytes.substr(8 + header_bytes + begin, end - begin)};
  }
  return tensors;
}

inline void WriteTensors(const std::filesystem::path& file, const TensorMap& tensors) {
  nlohmann::json header;
  std::string data;
  for (const auto& [name, tensor] : tensors) {
    header[name] = tensor.first;
    header[name]["data_offsets"] = {data.size(), data.size() + tensor.second.size()};
    data += tensor.second;
  }
  const std::string text = header.dump();
  const uint64_t size = text.size();
  WriteFile(file, std::string(reinterpret_cast<const char*>(&size), sizeof(size)) + text + data);
}

}  // namespace lectern::test
