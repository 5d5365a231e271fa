#include "server/engine/documents/disk/cache_file.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/hashing/checksum.h"

namespace lectern {
namespace {

constexpr std::string_view kMagic = "\x89LECTDOC";
constexpr size_t kChecksumAt = 56;
constexpr size_t kIdLength = 36;

class Writer {
 public:
  void U64(uint64_t value) {
    for (int i = 0; i < 8; ++i) bytes_ += static_cast<char>(value >> (8 * i) & 0xff);
  }
  void I64(int64_t value) { U64(static_cast<uint64_t>(value)); }
  void Text(std::string_view text) {
    U64(text.size());
    bytes_.append(text.data(), text.size());
  }
  void When(absl::Time time) { I64(absl::ToUnixMicros(time)); }
  void Identity(const CacheIdentity& identity) {
    Text(identity.id);
    Text(identity.fingerprint);
  }
  // The fields that differ from exact attention, by name: a policy that does not use a field has
  // the same bytes, and so the same file, as before the field existed.
  void Policy(const AttentionPolicy& policy) {
    const AttentionPolicy exact = AttentionPolicy::Exact();
    std::vector<const PolicyField*> used;
    for (const PolicyField& field : kPolicyFields) {
      if (field.Values(policy) != field.Values(exact)) used.push_back(&field);
    }
    U64(used.size());
    for (const PolicyField* field : used) {
      const std::vector<int64_t> values = field->Values(policy);
      Text(field->name);
      U64(values.size());
      for (const int64_t value : values) I64(value);
    }
  }
  const std::string& bytes() const { return bytes_; }

 private:
  std::string bytes_;
};

// Reads what Writer wrote. After the first invalid value it reads zeros and is not ok.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}
  bool ok() const { return ok_; }
  // True if only the zeros of the padding are left.
  bool AtEnd() const { return ok_ && bytes_.find_first_not_of('\0') == std::string_view::npos; }

  uint64_t U64() {
    const std::string_view bytes = Take(8);
    uint64_t value = 0;
    for (size_t i = 0; i < bytes.size(); ++i) {
      value |= uint64_t{static_cast<unsigned char>(bytes[i])} << (8 * i);
    }
    return value;
  }
  int64_t I64() { return static_cast<int64_t>(U64()); }
  bool Bool() { return Choice(1) != 0; }
  std::string Text() { return std::string(Take(U64())); }
  absl::Time When() {
    const int64_t micros = I64();
    if (micros == INT64_MAX) return absl::InfiniteFuture();
    return absl::FromUnixMicros(micros);
  }
  // Reads a number from 0 to `last`.
  uint64_t Choice(uint64_t last) {
    const uint64_t value = U64();
    ok_ = ok_ && value <= last;
    return ok_ ? value : 0;
  }
  // Reads the number of elements that take at least `least_bytes` each.
  uint64_t Count(size_t least_bytes) { return Choice(bytes_.size() / least_bytes); }
  CacheIdentity Identity() {
    CacheIdentity identity;
    identity.id = Text();
    identity.fingerprint = Text();
    ok_ = ok_ && IsDocumentId(identity.id);
    return identity;
  }
  AttentionPolicy Policy() {
    AttentionPolicy policy = AttentionPolicy::Exact();
    for (uint64_t left = Count(16); left > 0 && ok_; --left) {
      const std::string name = Text();
      const auto field = std::find_if(kPolicyFields.begin(), kPolicyFields.end(),
                                      [&](const PolicyField& f) { return f.name == name; });
      std::vector<int64_t> values(Count(8));
      for (int64_t& value : values) value = I64();
      ok_ = ok_ && field != kPolicyFields.end() && field->CanHold(values);
      if (ok_) field->Set(values, policy);
    }
    return policy;
  }

 private:
  std::string_view Take(uint64_t size) {
    ok_ = ok_ && size <= bytes_.size();
    if (!ok_) return {};
    const std::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }

  std::string_view bytes_;
  bool ok_ = true;
};

// Returns the checksum of the whole header, without the bytes of the checksum itself.
uint64_t HeaderChecksum(std::string_view header) {
  std::string bytes(header);
  bytes.replace(kChecksumAt, 8, 8, '\0');
  return Checksum(bytes);
}

std::string Header(CacheFileKind kind, const Writer& body, uint64_t data_bytes) {
  const size_t used = kCachePreambleBytes + body.bytes().size();
  const size_t data_offset = (used + kCacheAlignment - 1) / kCacheAlignment * kCacheAlignment;
  Writer preamble;
  preamble.U64(CacheFormatVersion(kind));
  preamble.U64(static_cast<uint64_t>(kind));
  preamble.U64(data_offset + data_bytes);
  preamble.U64(data_offset);
  std::string header = absl::StrCat(std::string(kMagic), preamble.bytes());
  header.resize(kCachePreambleBytes);
  header += body.bytes();
  header.resize(data_offset);
  Writer checksum;
  checksum.U64(HeaderChecksum(header));
  header.replace(kChecksumAt, 8, checksum.bytes());
  return header;
}

// Returns the header's body, if its checksum is right.
std::optional<Reader> Body(std::string_view header) {
  if (header.size() < kCachePreambleBytes) return std::nullopt;
  if (Reader(header.substr(kChecksumAt, 8)).U64() != HeaderChecksum(header)) return std::nullopt;
  return Reader(header.substr(kCachePreambleBytes));
}

}  // namespace

const char* ToString(CacheFileError fault) {
  switch (fault) {
    case CacheFileError::kNone:
      return "none";
    case CacheFileError::kMissing:
      return "missing";
    case CacheFileError::kUnreadable:
      return "unreadable";
    case CacheFileError::kTruncated:
      return "truncated";
    case CacheFileError::kForeign:
      return "foreign";
    case CacheFileError::kVersion:
      return "version";
    case CacheFileError::kCorrupt:
      return "corrupt";
    case CacheFileError::kStale:
      return "stale";
  }
  return "unknown";
}

std::string EncodeHeader(const CacheMeta& meta) {
  Writer body;
  body.Identity(meta.identity);
  body.Text(meta.model);
  body.Text(meta.sha256);
  body.U64(meta.text_bytes);
  body.U64(meta.tokens);
  body.U64(meta.chunks);
  body.U64(static_cast<uint64_t>(meta.reading));
  body.U64(meta.holdings.size());
  for (const auto& [owner, holding] : meta.holdings) {
    body.Text(owner);
    body.Text(holding.title);
    body.U64(holding.pinned);
    body.When(holding.created);
    body.When(holding.expires);
  }
  return Header(CacheFileKind::kMeta, body, 0);
}

std::string EncodeHeader(const CacheText& text, uint64_t data_bytes) {
  Writer body;
  body.Identity(text.identity);
  body.U64(text.checksum);
  return Header(CacheFileKind::kText, body, data_bytes);
}

std::string EncodeHeader(const CachePages& pages) {
  Writer body;
  body.Identity(pages.identity);
  body.U64(static_cast<uint64_t>(pages.reading));
  body.Policy(pages.policy);
  body.U64(pages.page_tokens);
  body.U64(pages.page_bytes);
  body.U64(pages.tokens_checksum);
  body.U64(pages.parts.size());
  for (const CachePart& part : pages.parts) {
    body.U64(part.tokens.begin);
    body.U64(part.tokens.end);
    body.U64(part.pages);
  }
  body.U64(pages.page_checksums.size());
  for (const uint64_t checksum : pages.page_checksums) body.U64(checksum);
  return Header(CacheFileKind::kPages, body, pages.page_checksums.size() * pages.page_bytes);
}

CacheFileError DecodePreamble(std::string_view preamble, CacheFileKind kind, uint64_t file_bytes,
                              CachePreamble* out) {
  if (preamble.size() < kCachePreambleBytes) return CacheFileError::kTruncated;
  if (!absl::StartsWith(absl::string_view(preamble.data(), preamble.size()),
                        absl::string_view(kMagic.data(), kMagic.size()))) {
    return CacheFileError::kForeign;
  }
  Reader reader(preamble.substr(kMagic.size()));
  if (reader.U64() != CacheFormatVersion(kind)) return CacheFileError::kVersion;
  if (reader.U64() != static_cast<uint64_t>(kind)) return CacheFileError::kForeign;
  *out = {.kind = kind, .file_bytes = reader.U64(), .data_offset = reader.U64()};
  if (out->file_bytes != file_bytes) return CacheFileError::kTruncated;
  const bool fits = out->data_offset >= kCachePreambleBytes && out->data_offset <= file_bytes &&
                    out->data_offset % kCacheAlignment == 0 &&
                    out->data_offset <= kMaxCacheHeaderBytes;
  return fits ? CacheFileError::kNone : CacheFileError::kCorrupt;
}

CacheFileError DecodeHeader(std::string_view header, CacheMeta* out) {
  std::optional<Reader> body = Body(header);
  if (!body) return CacheFileError::kCorrupt;
  out->identity = body->Identity();
  out->model = body->Text();
  out->sha256 = body->Text();
  out->text_bytes = body->U64();
  out->tokens = body->U64();
  out->chunks = body->U64();
  out->reading =
      static_cast<ReadingMode>(body->Choice(static_cast<uint64_t>(ReadingMode::kChunks)));
  for (uint64_t left = body->Count(40); left > 0 && body->ok(); --left) {
    const std::string owner = body->Text();
    Ownership& holding = out->holdings[owner];
    holding.title = body->Text();
    holding.pinned = body->Bool();
    holding.created = body->When();
    holding.expires = body->When();
  }
  return body->AtEnd() ? CacheFileError::kNone : CacheFileError::kCorrupt;
}

CacheFileError DecodeHeader(std::string_view header, CacheText* out) {
  std::optional<Reader> body = Body(header);
  if (!body) return CacheFileError::kCorrupt;
  out->identity = body->Identity();
  out->checksum = body->U64();
  return body->AtEnd() ? CacheFileError::kNone : CacheFileError::kCorrupt;
}

CacheFileError DecodeHeader(std::string_view header, CachePages* out) {
  std::optional<Reader> body = Body(header);
  if (!body) return CacheFileError::kCorrupt;
  out->identity = body->Identity();
  out->reading =
      static_cast<ReadingMode>(body->Choice(static_cast<uint64_t>(ReadingMode::kChunks)));
  out->policy = body->Policy();
  out->page_tokens = body->U64();
  out->page_bytes = body->U64();
  out->tokens_checksum = body->U64();
  out->parts.resize(body->Count(24));
  for (CachePart& part : out->parts) {
    part.tokens.begin = body->U64();
    part.tokens.end = body->U64();
    part.pages = body->U64();
  }
  out->page_checksums.resize(body->Count(8));
  for (uint64_t& checksum : out->page_checksums) checksum = body->U64();
  uint64_t pages = 0;
  for (const CachePart& part : out->parts) {
    if (part.pages > out->page_checksums.size()) return CacheFileError::kCorrupt;
    pages += part.pages;
  }
  const bool fits = body->AtEnd() && pages == out->page_checksums.size();
  return fits ? CacheFileError::kNone : CacheFileError::kCorrupt;
}

bool IsDocumentId(std::string_view text) {
  return text.size() == kIdLength && text.substr(0, 4) == "doc-" &&
         text.find_first_not_of("0123456789abcdef", 4) == std::string_view::npos;
}

std::string MetaName(const std::string& id) { return id + ".meta"; }
std::string TextName(const std::string& id) { return id + ".text"; }
std::string PagesName(const std::string& id, ReadingMode reading, const AttentionPolicy& policy) {
  Writer key;
  key.U64(static_cast<uint64_t>(reading));
  key.Policy(policy);
  return absl::StrCat(id, ".", absl::Hex(Checksum(key.bytes()), absl::kZeroPad16), ".pages");
}

std::optional<std::string> IdOfName(std::string_view name) {
  const std::string id(name.substr(0, kIdLength));
  if (!IsDocumentId(id)) return std::nullopt;
  if (name == MetaName(id) || name == TextName(id)) return id;
  constexpr std::string_view kPagesEnd = ".pages";
  const bool pages = name.size() == kIdLength + 1 + 16 + kPagesEnd.size() &&
                     name[kIdLength] == '.' &&
                     name.substr(name.size() - kPagesEnd.size()) == kPagesEnd &&
                     name.substr(kIdLength + 1, 16).find_first_not_of("0123456789abcdef") ==
                         std::string_view::npos;
  if (!pages) return std::nullopt;
  return id;
}

}  // namespace lectern
