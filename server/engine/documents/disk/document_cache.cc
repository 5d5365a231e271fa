#include "server/engine/documents/disk/document_cache.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/hashing/checksum.h"
#include "base/hashing/sha256.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/engine/kv_cache/page_count.h"

namespace lectern {
namespace {

CacheIdentity IdentityOf(const DocumentContent& content) {
  return {.id = content.id, .fingerprint = content.model->info().fingerprint};
}

// Returns the checksum of the token ids that the pages were computed from.
uint64_t TokensChecksum(const DocumentContent& content) {
  const std::vector<int32_t> ids = content.Prompt({0, content.encoding.ids.size()});
  return Checksum(std::as_bytes(std::span(ids)));
}

std::vector<CachePart> PartsOf(const DocumentContent& content, ReadingMode reading) {
  const ModelInfo& info = content.model->info();
  std::vector<CachePart> parts;
  for (const TokenRange& part : content.Parts(reading)) {
    parts.push_back({part, PagesFor(content.PromptSize(part), info)});
  }
  return parts;
}

CachePages PagesHeader(const DocumentContent& content, const DocumentKv& read) {
  const ModelInfo& info = content.model->info();
  CachePages header{.identity = IdentityOf(content),
                    .reading = read.reading,
                    .policy = read.policy,
                    .page_tokens = static_cast<uint64_t>(info.page_tokens),
                    .page_bytes = info.page_bytes,
                    .tokens_checksum = TokensChecksum(content),
                    .parts = PartsOf(content, read.reading)};
  for (const PageSet& part : read.parts) {
    for (const std::byte* page : part.pages()) {
      header.page_checksums.push_back(Checksum(std::span(page, info.page_bytes)));
    }
  }
  return header;
}

absl::Status NoPath(const std::string& id) {
  return absl::InvalidArgumentError(absl::StrCat("'", id, "' is not a document's id"));
}

}  // namespace

DocumentCache::DocumentCache(DocumentCacheOptions options,
                             std::vector<std::shared_ptr<const Model>> models,
                             ServerMetrics* metrics)
    : options_(std::move(options)), models_(std::move(models)), metrics_(metrics) {}

DocumentCache::~DocumentCache() = default;

CacheFileError DocumentCache::OpenChecked(const std::string& name, CacheFileKind kind,
                                          std::optional<OpenFile>* file, std::string* header,
                                          CachePreamble* preamble) const {
  auto opened = OpenFile::Open(*options_.files, Path(name), O_RDONLY);
  if (!opened.ok()) {
    return absl::IsNotFound(opened.status()) ? CacheFileError::kMissing
                                             : CacheFileError::kUnreadable;
  }
  file->emplace(*std::move(opened));
  const absl::StatusOr<uint64_t> bytes = (*file)->Size();
  if (!bytes.ok()) return CacheFileError::kUnreadable;
  if (*bytes < kCachePreambleBytes) return CacheFileError::kTruncated;
  header->resize(kCachePreambleBytes);
  const auto writable = [header] { return std::as_writable_bytes(std::span(*header)); };
  if (!(*file)->ReadAt(0, writable()).ok()) return CacheFileError::kUnreadable;
  const CacheFileError fault = DecodePreamble(*header, kind, *bytes, preamble);
  if (fault != CacheFileError::kNone) return fault;
  header->resize(preamble->data_offset);
  return (*file)->ReadAt(0, writable()).ok() ? CacheFileError::kNone : CacheFileError::kUnreadable;
}

absl::Status DocumentCache::Save(const std::string& id, const std::string& name,
                                 std::span<const std::span<const std::byte>> pieces) {
  uint64_t bytes = 0;
  for (const auto& piece : pieces) bytes += piece.size();
  LECTERN_RETURN_IF_ERROR(WriteFileAtomically(*options_.files, Path(name), pieces));
  MutexLock lock(&mutex_);
  files_[id].bytes[name] = bytes;
  return absl::OkStatus();
}

absl::Status DocumentCache::SaveText(const DocumentContent& content) {
  if (!IsDocumentId(content.id)) return NoPath(content.id);
  const std::string header =
      EncodeHeader(CacheText{IdentityOf(content), Checksum(content.text)}, content.text.size());
  const std::span<const std::byte> pieces[] = {BytesOf(header), BytesOf(content.text)};
  return Save(content.id, TextName(content.id), pieces);
}

absl::Status DocumentCache::SavePages(const DocumentContent& content, const DocumentKv& read) {
  if (!IsDocumentId(content.id)) return NoPath(content.id);
  const std::string header = EncodeHeader(PagesHeader(content, read));
  std::vector<std::span<const std::byte>> pieces = {BytesOf(header)};
  for (const PageSet& part : read.parts) {
    for (const std::byte* page : part.pages()) {
      pieces.emplace_back(page, content.model->info().page_bytes);
    }
  }
  return Save(content.id, PagesName(content.id, read.reading, read.policy), pieces);
}

absl::Status DocumentCache::SaveMeta(const CacheMeta& meta, absl::Time last_used) {
  const std::string& id = meta.identity.id;
  if (!IsDocumentId(id)) return NoPath(id);
  const std::string header = EncodeHeader(meta);
  const std::span<const std::byte> pieces[] = {BytesOf(header)};
  LECTERN_RETURN_IF_ERROR(Save(id, MetaName(id), pieces));
  Touch(id, last_used);
  return absl::OkStatus();
}

void DocumentCache::Touch(const std::string& id, absl::Time last_used) const {
  SetModifiedTime(Path(MetaName(id)), last_used);
}

CacheFileError DocumentCache::LoadTextFile(const CacheMeta& meta, std::string* text) const {
  std::optional<OpenFile> file;
  std::string bytes_of_header;
  CachePreamble preamble;
  CacheFileError fault = OpenChecked(TextName(meta.identity.id), CacheFileKind::kText, &file,
                                     &bytes_of_header, &preamble);
  if (fault != CacheFileError::kNone) return fault;
  CacheText header;
  fault = DecodeHeader(bytes_of_header, &header);
  if (fault != CacheFileError::kNone) return fault;
  if (header.identity != meta.identity) return CacheFileError::kForeign;
  const uint64_t bytes = preamble.file_bytes - preamble.data_offset;
  if (bytes != meta.text_bytes) return CacheFileError::kCorrupt;
  text->resize(bytes);
  if (!file->ReadAt(preamble.data_offset, std::as_writable_bytes(std::span(*text))).ok()) {
    return CacheFileError::kUnreadable;
  }
  const bool fits = Checksum(*text) == header.checksum && Sha256Hex(*text) == meta.sha256;
  return fits ? CacheFileError::kNone : CacheFileError::kCorrupt;
}

absl::StatusOr<std::string> DocumentCache::LoadText(const CacheMeta& meta) {
  const std::string& id = meta.identity.id;
  if (!IsDocumentId(id)) return NoPath(id);
  std::string text;
  const CacheFileError fault = LoadTextFile(meta, &text);
  if (fault == CacheFileError::kNone) return text;
  Reject(id, TextName(id), fault);
  return absl::DataLossError(absl::StrCat("the text on disk is ", ToString(fault)));
}

CacheFileError DocumentCache::CheckPages(const CachePages& header, const DocumentContent& content,
                                         ReadingMode reading, const AttentionPolicy& policy) const {
  const ModelInfo& info = content.model->info();
  if (header.identity != IdentityOf(content) || header.reading != reading ||
      header.policy != policy || header.page_bytes != info.page_bytes ||
      header.page_tokens != static_cast<uint64_t>(info.page_tokens)) {
    return CacheFileError::kForeign;
  }
  const bool same_tokens = header.parts == PartsOf(content, reading) &&
                           header.tokens_checksum == TokensChecksum(content);
  return same_tokens ? CacheFileError::kNone : CacheFileError::kStale;
}

absl::StatusOr<std::shared_ptr<const DocumentKv>> DocumentCache::LoadPages(
    const DocumentContent& content, ReadingMode reading, const AttentionPolicy& policy,
    const PageAllocator& allocate) {
  if (!IsDocumentId(content.id)) return NoPath(content.id);
  const std::string name = PagesName(content.id, reading, policy);
  const auto rejected = [&](CacheFileError fault) {
    Reject(content.id, name, fault);
    return absl::DataLossError(absl::StrCat("the pages on disk are ", ToString(fault)));
  };
  std::optional<OpenFile> file;
  std::string bytes_of_header;
  CachePages header;
  CachePreamble preamble;
  CacheFileError fault =
      OpenChecked(name, CacheFileKind::kPages, &file, &bytes_of_header, &preamble);
  if (fault == CacheFileError::kNone) fault = DecodeHeader(bytes_of_header, &header);
  if (fault == CacheFileError::kNone) fault = CheckPages(header, content, reading, policy);
  if (fault != CacheFileError::kNone) return rejected(fault);
  // The sizes have been checked against this document's pages.
  const size_t page_bytes = content.model->info().page_bytes;
  uint64_t offset = preamble.data_offset;
  if (preamble.file_bytes - offset != header.page_checksums.size() * page_bytes) {
    return rejected(CacheFileError::kTruncated);
  }
  posix_fadvise(file->fd(), 0, 0, POSIX_FADV_SEQUENTIAL);
  auto read = std::make_shared<DocumentKv>();
  read->policy = policy;
  read->reading = reading;
  auto checksum = header.page_checksums.begin();
  for (const CachePart& part : header.parts) {
    LECTERN_ASSIGN_OR_RETURN(PageSet pages, allocate(page_bytes, part.pages));
    for (std::byte* page : pages.pages()) {
      const std::span<std::byte> bytes(page, page_bytes);
      if (!file->ReadAt(offset, bytes).ok()) return rejected(CacheFileError::kUnreadable);
      if (Checksum(bytes) != *checksum++) return rejected(CacheFileError::kCorrupt);
      offset += page_bytes;
    }
    read->parts.push_back(std::move(pages));
  }
  return read;
}

void DocumentCache::Reject(const std::string& id, const std::string& name, CacheFileError fault) {
  LogWarning("cache file rejected", {{"file", name}, {"reason", ToString(fault)}});
  metrics_->CacheFileRejected(ToString(fault));
  if (fault == CacheFileError::kUnreadable) metrics_->CacheDiskError();
  RemoveFile(id, name).IgnoreError();
}

absl::Status DocumentCache::RemoveFile(const std::string& id, const std::string& name) {
  if (options_.files->Unlink(Path(name).c_str()) != 0 && errno != ENOENT) {
    return absl::UnavailableError(absl::StrCat("cannot remove ", name, ": ", strerror(errno)));
  }
  MutexLock lock(&mutex_);
  const auto files = files_.find(id);
  if (files == files_.end()) return absl::OkStatus();
  files->second.bytes.erase(name);
  if (files->second.bytes.empty()) files_.erase(files);
  return absl::OkStatus();
}

absl::StatusOr<uint64_t> DocumentCache::Remove(const std::string& id) {
  if (!IsDocumentId(id)) return NoPath(id);
  std::map<std::string, uint64_t> names;
  {
    MutexLock lock(&mutex_);
    const auto files = files_.find(id);
    if (files != files_.end()) names = files->second.bytes;
  }
  if (names.empty()) return 0;
  uint64_t bytes = 0;
  // First the meta file, which makes the document known: from then on it is gone, whatever happens.
  LECTERN_RETURN_IF_ERROR(RemoveFile(id, MetaName(id)));
  const auto folder = OpenFile::Open(*options_.files, options_.directory, O_RDONLY | O_DIRECTORY);
  LECTERN_RETURN_IF_ERROR(folder.ok() ? options_.files->FSync(folder->fd()) == 0
                                            ? absl::OkStatus()
                                            : absl::UnavailableError("cannot sync the cache folder")
                                      : folder.status());
  for (const auto& [name, size] : names) {
    LECTERN_RETURN_IF_ERROR(RemoveFile(id, name));
    bytes += size;
  }
  return bytes;
}

void DocumentCache::RemovePages(const std::string& id, ReadingMode reading,
                                const AttentionPolicy& policy) {
  if (IsDocumentId(id)) RemoveFile(id, PagesName(id, reading, policy)).IgnoreError();
}

bool DocumentCache::DropForeign() {
  std::string id;
  {
    MutexLock lock(&mutex_);
    for (const auto& [name, files] : files_) {
      if (files.foreign) id = name;
    }
  }
  return !id.empty() && Remove(id).ok();
}

bool DocumentCache::Has(const std::string& id) const {
  MutexLock lock(&mutex_);
  return files_.contains(id);
}

uint64_t DocumentCache::bytes() const {
  MutexLock lock(&mutex_);
  uint64_t bytes = 0;
  for (const auto& [id, files] : files_) {
    for (const auto& [name, size] : files.bytes) bytes += size;
  }
  return bytes;
}

uint64_t DocumentCache::TextFileBytes(uint64_t text_bytes) {
  return EncodeHeader(CacheText{}, 0).size() + text_bytes;
}

uint64_t DocumentCache::PagesFileBytes(const DocumentContent& content, const DocumentKv& read) {
  uint64_t pages = 0;
  for (const PageSet& part : read.parts) pages += part.size();
  // The header's tables and a page's worth of fields, rounded up.
  return pages * content.model->info().page_bytes + pages * 8 + read.parts.size() * 24 +
         2 * kCacheAlignment;
}

}  // namespace lectern
