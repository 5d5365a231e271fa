// GGUF files (versions 2 and 3, little-endian), read through mmap and treated as hostile: every
// count, offset and size is checked against the remaining bytes before it is used.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "server/formats/tensor_source.h"

namespace lectern {

// A metadata value. Integers of every width are widened; an array is of one element kind.
struct GgufValue {
  std::variant<int64_t, uint64_t, double, bool, std::string, std::vector<int64_t>,
               std::vector<double>, std::vector<bool>, std::vector<std::string>>
      value;
};

// One file, or a model split into parts NAME-00001-of-00003.gguf, ... of which the first is named.
// The parts hold the keys split.no (from 0), split.count and split.tensors.count (of all parts).
// The metadata is that of the first; the tensors are those of all. Immutable, thread-safe.
class GgufFile : public TensorSource {
 public:
  // Looks at the metadata of a file whose tensors have not been read yet. An error ends Open.
  using MetadataCheck = std::function<absl::Status(const GgufFile& file)>;

  // NOT_FOUND for a missing file; INVALID_ARGUMENT naming file, key or tensor, and reason
  // otherwise. Parts that are not of the model are refused, as is a path of another part than the
  // first. Never crashes and never allocates more than a small multiple of the bytes actually
  // present. `check` comes before the tensors, so that a file that is of no use is refused for that
  // reason rather than for the type of one of its tensors.
  static absl::StatusOr<std::unique_ptr<GgufFile>> Open(const std::string& path,
                                                        const MetadataCheck& check = nullptr);

  // The files of all parts, in order; path() is the first.
  virtual const std::vector<std::string>& paths() const = 0;

  virtual const std::map<std::string, GgufValue>& metadata() const = 0;

  // Typed look-ups: INVALID_ARGUMENT naming file and key when absent or of another type.
  virtual absl::StatusOr<int64_t> GetInt(const std::string& key) const = 0;
  virtual absl::StatusOr<double> GetFloat(const std::string& key) const = 0;
  virtual absl::StatusOr<std::string> GetString(const std::string& key) const = 0;
  virtual bool Has(const std::string& key) const = 0;
};

}  // namespace lectern
