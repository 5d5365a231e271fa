#include "tests/testing/golden.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <utility>

namespace lectern::test {
namespace {

[[noreturn]] void Die(const std::filesystem::path& file, const std::string& why) {
  std::fprintf(stderr, "golden file %s: %s\n", file.c_str(), why.c_str());
  std::abort();
}

std::string ReadAll(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) Die(file, "can not be read");
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

template <typename T>
std::vector<T> Values(const std::filesystem::path& file, std::string_view bytes, int64_t count) {
  if (bytes.size() != count * sizeof(T)) Die(file, "a tensor's bytes do not fit its shape");
  std::vector<T> values(count);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

}  // namespace

int64_t GoldenTensor::size() const {
  int64_t count = 1;
  for (const int64_t n : shape) count *= n;
  return count;
}

GoldenTensors GoldenTensors::Read(const std::filesystem::path& file) {
  const std::string bytes = ReadAll(file);
  uint64_t header_bytes = 0;
  if (bytes.size() < sizeof(header_bytes)) Die(file, "too short");
  std::memcpy(&header_bytes, bytes.data(), sizeof(header_bytes));
  if (header_bytes > bytes.size() - sizeof(header_bytes)) Die(file, "header too long");
  const std::string_view all(bytes);
  const std::string_view data = all.substr(sizeof(header_bytes) + header_bytes);
  const auto header = nlohmann::json::parse(all.substr(sizeof(header_bytes), header_bytes));
  GoldenTensors result;
  result.file_ = file;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    GoldenTensor tensor;
    tensor.dtype = entry.at("dtype");
    tensor.shape = entry.at("shape").get<std::vector<int64_t>>();
    const uint64_t begin = entry.at("data_offsets").at(0);
    const uint64_t end = entry.at("data_offsets").at(1);
    if (begin > end || end > data.size()) Die(file, name + ": offsets out of range");
    const std::string_view view = data.substr(begin, end - begin);
    if (tensor.dtype == "F32") {
      tensor.f32 = Values<float>(file, view, tensor.size());
      tensor.f64.assign(tensor.f32.begin(), tensor.f32.end());
    } else if (tensor.dtype == "F64") {
      tensor.f64 = Values<double>(file, view, tensor.size());
      tensor.f32.assign(tensor.f64.begin(), tensor.f64.end());
    } else if (tensor.dtype == "I32") {
      tensor.i32 = Values<int32_t>(file, view, tensor.size());
    } else if (tensor.dtype == "U8") {
      tensor.u8 = Values<uint8_t>(file, view, tensor.size());
    } else {
      Die(file, name + ": unknown dtype " + tensor.dtype);
    }
    result.tensors_.emplace(name, std::move(tensor));
  }
  return result;
}

const GoldenTensor& GoldenTensors::operator[](const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) Die(file_, "no tensor " + name);
  return found->second;
}

std::vector<std::string> GoldenTensors::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) names.push_back(name);
  return names;
}

Tolerance GoldenCase::ToleranceOf(std::string_view tensor) const {
  for (const auto& [key, value] : tolerance.items()) {
    const bool pattern = !key.empty() && key.back() == '*';
    const std::string_view stem(key.data(), key.size() - (pattern ? 1 : 0));
    if (pattern ? tensor.substr(0, stem.size()) == stem : tensor == stem) {
      return {value.at("atol"), value.at("rtol")};
    }
  }
  Die(path(), "no tolerance for " + std::string(tensor));
}

std::filesystem::path GoldenDir() {
  if (const char* dir = std::getenv("LECTERN_GOLDEN_DIR"); dir != nullptr && *dir != '\0') {
    return dir;
  }
  return FixtureDir();
}

std::filesystem::path FixtureDir() {
  const char* source = std::getenv("LECTERN_SOURCE_DIR");
  return std::filesystem::path(source != nullptr ? source : ".") / "tests" / "golden";
}

std::vector<GoldenCase> GoldenCases(std::string_view family) {
  return GoldenCases(family, GoldenDir());
}

std::vector<GoldenCase> GoldenCases(std::string_view family, const std::filesystem::path& dir) {
  const std::filesystem::path folder = dir / family;
  const std::filesystem::path list = folder / "cases.json";
  if (!std::filesystem::exists(list)) return {};
  std::vector<GoldenCase> cases;
  for (const auto& entry : nlohmann::json::parse(ReadAll(list))) {
    GoldenCase one{entry.at("name"),      folder,
                   entry.at("file"),      entry.at("params"),
                   entry.at("tolerance"), entry.value("max_error", nlohmann::json())};
    if (std::filesystem::exists(one.path())) cases.push_back(std::move(one));
  }
  return cases;
}

bool MissingFilesAreFailures() {
  const char* ci = std::getenv("CI");
  return ci != nullptr && std::string_view(ci) == "true";
}

std::string CompareValues(const std::vector<float>& got, const std::vector<double>& want,
                          const Tolerance& tolerance) {
  std::ostringstream out;
  if (got.size() != want.size()) {
    out << got.size() << " values instead of " << want.size();
    return out.str();
  }
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - want[i]);
    if (got[i] == want[i] || error <= tolerance.atol + tolerance.rtol * std::abs(want[i])) continue;
    out << "at " << i << ": got " << got[i] << ", want " << want[i] << ", error " << error;
    return out.str();
  }
  return "";
}

}  // namespace lectern::test
