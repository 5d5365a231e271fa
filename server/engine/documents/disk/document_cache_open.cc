// Takes over the cache folder: finds its documents and removes damaged files.
#include <fcntl.h>
#include <sys/file.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/log.h"
#include "base/status_macros.h"
#include "server/engine/documents/disk/document_cache.h"

namespace lectern {
namespace {

constexpr std::string_view kTemporaryEnd = ".tmp";

absl::Status FolderError(const std::string& directory, const char* what) {
  return absl::UnavailableError(absl::StrCat("cache folder ", directory, ": ", what));
}

}  // namespace

absl::Status DocumentCache::MakeFolder() {
  std::string& directory = options_.directory;
  if (options_.files->MkDir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return FolderError(directory, strerror(errno));
  }
  char resolved[PATH_MAX];
  if (realpath(directory.c_str(), resolved) == nullptr) {
    return FolderError(directory, strerror(errno));
  }
  directory = resolved;
  return absl::OkStatus();
}

absl::Status DocumentCache::LockFolder() {
  if (lock_file_) return absl::OkStatus();
  LECTERN_ASSIGN_OR_RETURN(OpenFile file,
                           OpenFile::Open(*options_.files, Path("lock"), O_RDWR | O_CREAT));
  if (flock(file.fd(), LOCK_EX | LOCK_NB) != 0) {
    return FolderError(options_.directory, "another process uses it");
  }
  lock_file_.emplace(std::move(file));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoredDocument>> DocumentCache::Open() {
  LECTERN_RETURN_IF_ERROR(MakeFolder());
  LECTERN_RETURN_IF_ERROR(LockFolder());
  LECTERN_ASSIGN_OR_RETURN(const std::vector<DirectoryEntry> entries,
                           ListFiles(options_.directory));
  std::map<std::string, std::map<std::string, DirectoryEntry>> by_id;
  for (const DirectoryEntry& entry : entries) {
    if (const auto id = IdOfName(entry.name)) {
      by_id[*id][entry.name] = entry;
    } else {
      RemoveLeftOver(entry.name);
    }
  }
  std::vector<StoredDocument> found;
  for (const auto& [id, files] : by_id) Scan(id, files, found);
  return found;
}

// Removes a file that a crash has left half written. Files with other names are not ours and stay.
void DocumentCache::RemoveLeftOver(const std::string& name) const {
  if (name.size() <= kTemporaryEnd.size()) return;
  const size_t stem = name.size() - kTemporaryEnd.size();
  if (name.substr(stem) != kTemporaryEnd || !IdOfName(name.substr(0, stem))) return;
  options_.files->Unlink(Path(name).c_str());
}

template <typename Header>
CacheFileError DocumentCache::ReadHeader(const std::string& name, CacheFileKind kind,
                                         Header* header, uint64_t* data_bytes) const {
  std::optional<OpenFile> file;
  std::string bytes;
  CachePreamble preamble;
  const CacheFileError fault = OpenChecked(name, kind, &file, &bytes, &preamble);
  if (fault != CacheFileError::kNone) return fault;
  *data_bytes = preamble.file_bytes - preamble.data_offset;
  return DecodeHeader(bytes, header);
}

CacheFileError DocumentCache::ScanPages(const std::string& name, const StoredDocument& document,
                                        StoredRead* read) const {
  CachePages pages;
  uint64_t bytes = 0;
  const CacheFileError fault = ReadHeader(name, CacheFileKind::kPages, &pages, &bytes);
  if (fault != CacheFileError::kNone) return fault;
  const ModelInfo& info = document.model->info();
  const CacheIdentity& identity = document.meta.identity;
  if (pages.identity != identity || pages.page_bytes != info.page_bytes ||
      pages.page_tokens != static_cast<uint64_t>(info.page_tokens) ||
      PagesName(identity.id, pages.reading, pages.policy) != name) {
    return CacheFileError::kForeign;
  }
  const uint64_t count = pages.page_checksums.size();
  if (bytes != count * pages.page_bytes) return CacheFileError::kTruncated;
  *read = {pages.reading, pages.policy, PagePool::Cost(info.page_bytes, count)};
  return CacheFileError::kNone;
}

void DocumentCache::Scan(const std::string& id, const std::map<std::string, DirectoryEntry>& files,
                         std::vector<StoredDocument>& found) {
  {
    MutexLock lock(&mutex_);
    for (const auto& [name, entry] : files) files_[id].bytes[name] = entry.bytes;
  }
  StoredDocument document;
  uint64_t bytes = 0;
  CacheFileError fault = ReadHeader(MetaName(id), CacheFileKind::kMeta, &document.meta, &bytes);
  const CacheIdentity& identity = document.meta.identity;
  if (fault == CacheFileError::kNone && identity.id != id) fault = CacheFileError::kForeign;
  CacheText text;
  if (fault == CacheFileError::kNone) {
    fault = ReadHeader(TextName(id), CacheFileKind::kText, &text, &bytes);
  }
  if (fault == CacheFileError::kNone && text.identity != identity) fault = CacheFileError::kForeign;
  if (fault == CacheFileError::kNone && bytes != document.meta.text_bytes)
    fault = CacheFileError::kCorrupt;
  if (fault != CacheFileError::kNone) {
    // One log line and one count for the whole document: its pages are useless without owner or
    // text.
    Reject(id, files.contains(MetaName(id)) ? MetaName(id) : files.begin()->first, fault);
    for (const auto& [name, entry] : files) RemoveFile(id, name).IgnoreError();
    return;
  }
  for (const auto& model : models_) {
    if (model->info().fingerprint == identity.fingerprint) document.model = model;
  }
  if (document.model == nullptr) {
    MutexLock lock(&mutex_);
    files_[id].foreign = true;
    return;
  }
  for (const auto& [name, entry] : files) {
    if (name == MetaName(id)) document.last_used = entry.modified;
    if (name == MetaName(id) || name == TextName(id)) continue;
    StoredRead read;
    fault = ScanPages(name, document, &read);
    if (fault == CacheFileError::kNone) {
      document.reads.push_back(std::move(read));
    } else {
      Reject(id, name, fault);
    }
  }
  found.push_back(std::move(document));
}

}  // namespace lectern
