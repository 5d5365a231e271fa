// The decoders of tests/golden/decoders: every file that holds a model, and what it computes.
// Cases, files, shapes and policies are read from the data, so that another set
// (LECTERN_GOLDEN_DIR) runs unchanged.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/model/attention_policy.h"
#include "tests/testing/golden.h"

namespace lectern::test {

// Expected results of the prompt under one policy.
struct DecoderVariant {
  std::string name;
  AttentionPolicy policy;
  std::vector<int64_t> positions;           // of `logits`
  std::vector<std::vector<double>> logits;  // of the ids 0, id_step, 2 id_step, ...
  int64_t id_step = 1;
  std::vector<double> last_logits;  // of the last position, all ids; or empty
  std::vector<int32_t> argmax;      // at every position of the prompt
  std::vector<int32_t> greedy_ids;  // may be empty
  std::vector<double> margin;       // best minus second logit at each greedy step
  Tolerance tolerance;              // of fp32
};

// A folder of safetensors, or a GGUF file.
struct DecoderFile {
  std::string name;  // of the case and the file, in letters, digits and underscores
  std::string path;
  bool quantised = false;      // holds weights in blocks
  int64_t context_length = 0;  // to be served with; 0: the file's own
  std::vector<int32_t> prompt;
  std::vector<DecoderVariant> variants;

  const DecoderVariant& dense() const;
};
void PrintTo(const DecoderFile& file, std::ostream* out);

// In the folder `decoders` of GoldenDir(), in order of their names; cases of readers are passed
// over. Aborts the program on a case that it cannot read. Empty without the folder.
std::vector<DecoderFile> DecoderFiles();

}  // namespace lectern::test
