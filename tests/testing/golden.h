// Reads golden files: expected results made by other implementations (tests/golden/README.md).
//
//   for (const GoldenCase& c : GoldenCases("topk_attention")) {
//     const GoldenTensors data = c.Load();
//     ...
//   }
// Cases are discovered from cases.json, so that another set (LECTERN_GOLDEN_DIR) runs unchanged.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace lectern::test {

// Values are in the vectors of their kind.
struct GoldenTensor {
  std::string dtype;  // "F32", "F64", "I32", "U8"
  std::vector<int64_t> shape;
  std::vector<float> f32;    // F32, and F64 rounded
  std::vector<double> f64;   // F64, and F32 widened
  std::vector<int32_t> i32;  // I32
  std::vector<uint8_t> u8;   // U8
  int64_t size() const;      // number of values
};

// A safetensors file; aborts the test program on a damaged file.
class GoldenTensors {
 public:
  static GoldenTensors Read(const std::filesystem::path& file);
  bool Has(const std::string& name) const { return tensors_.contains(name); }
  const GoldenTensor& operator[](const std::string& name) const;
  std::vector<std::string> Names() const;

 private:
  std::filesystem::path file_;
  std::map<std::string, GoldenTensor> tensors_;
};

// |got - want| <= atol + rtol * |want|
struct Tolerance {
  double atol = 0;
  double rtol = 0;
};

struct GoldenCase {
  std::string name;
  std::filesystem::path folder;  // of the family
  std::string file;              // relative to folder
  nlohmann::json params;
  nlohmann::json tolerance;
  nlohmann::json max_error;

  std::filesystem::path path() const { return folder / file; }
  GoldenTensors Load() const { return GoldenTensors::Read(path()); }
  // For a tensor by name; keys of `tolerance` may end in '*'.
  Tolerance ToleranceOf(std::string_view tensor) const;
};

// $LECTERN_GOLDEN_DIR, or tests/golden of the source tree.
std::filesystem::path GoldenDir();

// tests/golden of the source tree, whatever LECTERN_GOLDEN_DIR says: for tests that need some small
// model or text, not the expected results of a set.
std::filesystem::path FixtureDir();

// The cases of a family whose files are present. Without cases.json the list is empty:
// LECTERN_REQUIRE_FILE says so.
std::vector<GoldenCase> GoldenCases(std::string_view family);
std::vector<GoldenCase> GoldenCases(std::string_view family, const std::filesystem::path& dir);

// How to treat an absent file: fail if CI=true, otherwise skip.
bool MissingFilesAreFailures();

// The first position where the rule is broken, in words, or "" when all values agree.
std::string CompareValues(const std::vector<float>& got, const std::vector<double>& want,
                          const Tolerance& tolerance);

}  // namespace lectern::test

// Ends the test when `present` is false: visibly skipped, or failed in CI.
#define LECTERN_REQUIRE_FILE(present, what)             \
  do {                                                  \
    if (!(present)) {                                   \
      if (::lectern::test::MissingFilesAreFailures()) { \
        FAIL() << "missing: " << (what);                \
      } else {                                          \
        GTEST_SKIP() << "missing: " << (what);          \
      }                                                 \
    }                                                   \
  } while (false)
