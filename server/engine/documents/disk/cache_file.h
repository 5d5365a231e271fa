// The format of the files that keep documents on disk (docs/design/document_store.md): encoding,
// decoding, and all checks of whether a file is valid. Works on bytes only.
//
//   [0, 64)              magic, version, kind, sizes, checksum of all of [0, data_offset)
//   [64, data_offset)    body: the fields of one of the structs below; zeros up to 4,096 bytes
//   [data_offset, end)   data: none, the text, or the pages; its checksums are in the body
//
// All numbers are little-endian. A file's length is in its header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "server/engine/api.h"
#include "server/engine/documents/document.h"
#include "server/model/attention_policy.h"

namespace lectern {

inline constexpr size_t kCachePreambleBytes = 64;
inline constexpr size_t kCacheAlignment = 4096;
inline constexpr size_t kMaxCacheHeaderBytes = size_t{64} << 20;

enum class CacheFileKind : uint32_t { kMeta = 1, kText = 2, kPages = 3 };
// The format version of each kind of file. Pages of another version are computed again from the
// text; a document whose meta or text file has another version is lost.
constexpr uint32_t CacheFormatVersion(CacheFileKind kind) {
  return kind == CacheFileKind::kPages ? 3 : 2;
}

// Why a file is invalid.
enum class CacheFileError {
  kNone,
  kMissing,     // not there, or belongs to no document
  kUnreadable,  // the disk returns an error
  kTruncated,   // shorter than its header or than its header says
  kForeign,     // not such a file, or of another document, model or page layout
  kVersion,     // another version of the format
  kCorrupt,     // a checksum or a field is wrong
  kStale,       // computed from other tokens: the text is tokenised or cut differently now
};
const char* ToString(CacheFileError fault);

// One owner's title, pin and expiry of a document.
struct Ownership {
  std::string title;
  bool pinned = false;
  absl::Time created;
  absl::Time expires = absl::InfiniteFuture();
};

// The document and model that a file belongs to; at the head of every body.
struct CacheIdentity {
  std::string id;
  std::string fingerprint;  // of the model
  bool operator==(const CacheIdentity&) const = default;
};

// Makes a document known: its other files count only if this one is there.
struct CacheMeta {
  CacheIdentity identity;
  std::string model;
  std::string sha256;
  uint64_t text_bytes = 0;
  uint64_t tokens = 0;
  uint64_t chunks = 1;
  ReadingMode reading = ReadingMode::kWhole;  // as first read: kWhole or kChunks
  std::map<std::string, Ownership> holdings;  // by owner
};

struct CacheText {
  CacheIdentity identity;
  uint64_t checksum = 0;
};

struct CachePart {
  TokenRange tokens;
  uint64_t pages = 0;
  bool operator==(const CachePart&) const = default;
};

struct CachePages {
  CacheIdentity identity;
  ReadingMode reading = ReadingMode::kWhole;
  AttentionPolicy policy;
  uint64_t page_tokens = 0;
  uint64_t page_bytes = 0;
  uint64_t tokens_checksum = 0;  // of the ids: the prefix's and the text's
  std::vector<CachePart> parts;
  std::vector<uint64_t> page_checksums;  // of all parts' pages, in order
};

// The first data_offset bytes of a file with `data_bytes` bytes of data.
std::string EncodeHeader(const CacheMeta& meta);
std::string EncodeHeader(const CacheText& text, uint64_t data_bytes);
std::string EncodeHeader(const CachePages& pages);

// The fields of the preamble.
struct CachePreamble {
  CacheFileKind kind = CacheFileKind::kMeta;
  uint64_t file_bytes = 0;
  uint64_t data_offset = 0;  // multiple of kCacheAlignment, at most kMaxCacheHeaderBytes
};
// Checks magic, version, kind and sizes; `file_bytes` is the file's true length.
CacheFileError DecodePreamble(std::string_view preamble, CacheFileKind kind, uint64_t file_bytes,
                              CachePreamble* out);
// `header` is [0, data_offset). Its checksum is checked before anything in it is used.
CacheFileError DecodeHeader(std::string_view header, CacheMeta* out);
CacheFileError DecodeHeader(std::string_view header, CacheText* out);
CacheFileError DecodeHeader(std::string_view header, CachePages* out);

// True for "doc-" and 32 hexadecimal digits, which may become part of a path.
bool IsDocumentId(std::string_view text);
// Names of a document's files.
std::string MetaName(const std::string& id);
std::string TextName(const std::string& id);
std::string PagesName(const std::string& id, ReadingMode reading, const AttentionPolicy& policy);
// Returns the id that a name begins with, if it is one of the names above.
std::optional<std::string> IdOfName(std::string_view name);

}  // namespace lectern
