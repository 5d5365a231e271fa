// Documents in a folder on disk, which are kept when memory is short or the server stops.
// docs/design/document_store.md describes format and guarantees.
//
// A document has one file for its text, one for the pages of each reading and policy, and one for
// its owners (the meta file, which is written last and removed first: without it the others do not
// count). Files are written under temporary names and renamed, so that a crash leaves only whole
// files, and .tmp files, which Open() removes. A file that is torn, damaged, foreign or stale is
// never handed out: it is counted by reason, logged and removed, and the caller reads the document
// again.
//
// Every method may block on the disk. Errors of the disk are UNAVAILABLE.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/files/file_system.h"
#include "base/mutex.h"
#include "server/engine/documents/disk/cache_file.h"
#include "server/engine/documents/document.h"
#include "server/engine/kv_cache/page_pool.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

// The pages on disk of one reading of a document.
struct StoredRead {
  ReadingMode reading = ReadingMode::kWhole;
  AttentionPolicy policy;
  uint64_t device_bytes = 0;  // that the pages take in memory
};

// A document that Open() finds.
struct StoredDocument {
  CacheMeta meta;
  std::shared_ptr<const Model> model;
  absl::Time last_used;
  std::vector<StoredRead> reads;
};

// Returns `count` pages of `page_bytes` bytes, or RESOURCE_EXHAUSTED.
using PageAllocator = std::function<absl::StatusOr<PageSet>(size_t page_bytes, size_t count)>;

struct DocumentCacheOptions {
  std::string directory;                          // its parent must exist
  uint64_t max_bytes = uint64_t{16} << 30;        // total of all files
  FileSystem* files = &FileSystem::Real();        // must outlive the cache
  absl::Duration least_retry = absl::Seconds(1);  // after a failure; doubles up to a minute
};

// Thread-safe, but two threads must not save one document at the same time.
class DocumentCache {
 public:
  DocumentCache(DocumentCacheOptions options, std::vector<std::shared_ptr<const Model>> models,
                ServerMetrics* metrics);
  ~DocumentCache();

  // Creates the folder (mode 0700) or takes it over: removes leftovers of crashes, reads headers
  // (no text, no pages), and returns the documents of these models. Files of other models stay
  // until DropForeign(). UNAVAILABLE if the folder cannot be used or another process uses it.
  absl::StatusOr<std::vector<StoredDocument>> Open() ABSL_LOCKS_EXCLUDED(mutex_);

  absl::Status SaveText(const DocumentContent& content) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SavePages(const DocumentContent& content, const DocumentKv& read)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Makes the document known. Its text must have been saved. `last_used` orders the documents after
  // a restart.
  absl::Status SaveMeta(const CacheMeta& meta, absl::Time last_used) ABSL_LOCKS_EXCLUDED(mutex_);

  // DATA_LOSS if there is no valid text.
  absl::StatusOr<std::string> LoadText(const CacheMeta& meta) ABSL_LOCKS_EXCLUDED(mutex_);
  // Reads directly into pages of `allocate`. DATA_LOSS if there are no valid pages. Errors of the
  // allocator are returned unchanged.
  absl::StatusOr<std::shared_ptr<const DocumentKv>> LoadPages(const DocumentContent& content,
                                                              ReadingMode reading,
                                                              const AttentionPolicy& policy,
                                                              const PageAllocator& allocate)
      ABSL_LOCKS_EXCLUDED(mutex_);

  // Removes all files of a document; returns their bytes.
  absl::StatusOr<uint64_t> Remove(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  void RemovePages(const std::string& id, ReadingMode reading, const AttentionPolicy& policy)
      ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes a document of another model; false if there is none.
  bool DropForeign() ABSL_LOCKS_EXCLUDED(mutex_);
  void Touch(const std::string& id, absl::Time last_used) const;

  bool Has(const std::string& id) const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t bytes() const ABSL_LOCKS_EXCLUDED(mutex_);
  uint64_t max_bytes() const { return options_.max_bytes; }
  const std::string& directory() const { return options_.directory; }
  absl::Duration least_retry() const { return options_.least_retry; }
  // The sizes of the files of a text and of pages, including headers.
  static uint64_t TextFileBytes(uint64_t text_bytes);
  static uint64_t PagesFileBytes(const DocumentContent& content, const DocumentKv& read);

 private:
  struct Files {
    std::map<std::string, uint64_t> bytes;  // by name
    bool foreign = false;
  };

  std::string Path(const std::string& name) const { return options_.directory + "/" + name; }
  absl::Status MakeFolder();
  absl::Status LockFolder();
  // Opens a file and reads the bytes of its header without decoding them.
  CacheFileError OpenChecked(const std::string& name, CacheFileKind kind,
                             std::optional<OpenFile>* file, std::string* header,
                             CachePreamble* preamble) const;
  // Opens a file, decodes its header and closes it again, as Open() does with every file.
  template <typename Header>
  CacheFileError ReadHeader(const std::string& name, CacheFileKind kind, Header* header,
                            uint64_t* data_bytes) const;
  void RemoveLeftOver(const std::string& name) const;
  void Scan(const std::string& id, const std::map<std::string, DirectoryEntry>& files,
            std::vector<StoredDocument>& found) ABSL_LOCKS_EXCLUDED(mutex_);
  CacheFileError ScanPages(const std::string& name, const StoredDocument& document,
                           StoredRead* read) const;
  CacheFileError LoadTextFile(const CacheMeta& meta, std::string* text) const;
  CacheFileError CheckPages(const CachePages& header, const DocumentContent& content,
                            ReadingMode reading, const AttentionPolicy& policy) const;
  absl::Status Save(const std::string& id, const std::string& name,
                    std::span<const std::span<const std::byte>> pieces) ABSL_LOCKS_EXCLUDED(mutex_);
  // Removes an invalid file, counts and logs it.
  void Reject(const std::string& id, const std::string& name, CacheFileError fault)
      ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status RemoveFile(const std::string& id, const std::string& name)
      ABSL_LOCKS_EXCLUDED(mutex_);

  DocumentCacheOptions options_;  // Open() resolves symbolic links in the directory
  const std::vector<std::shared_ptr<const Model>> models_;
  ServerMetrics* const metrics_;
  std::optional<OpenFile> lock_file_;  // held while this process uses the folder
  mutable Mutex mutex_;
  std::map<std::string, Files> files_ ABSL_GUARDED_BY(mutex_);  // by id
};

}  // namespace lectern
