// Writes documents to disk on a separate thread, after they are in memory, and keeps the files in
// step with the documents: new documents and pages, owners, removals. When the disk fails,
// documents are served from memory and writing is tried again.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "base/mutex.h"
#include "server/engine/documents/disk/document_cache.h"
#include "server/engine/documents/document.h"
#include "server/metrics/server_metrics.h"

namespace lectern {

// The parts of a document that are to be written.
struct UnsavedDocument {
  std::string id;
  std::shared_ptr<const DocumentContent> content;        // null: the text is on disk alone
  std::shared_ptr<void> hold;                            // keeps the document from being evicted
  bool text = false;                                     // the text is not on disk
  std::vector<std::shared_ptr<const DocumentKv>> reads;  // that are not on disk
};

struct OwnersToSave {
  CacheMeta meta;
  absl::Time last_used;
};

// The documents in memory, as the saver sees them. Thread-safe. Implementations may call
// SetUnsaved(), SetRemoved() and DropUnsaved() while they hold their lock: the saver never calls
// them while it holds the lock that those methods take.
class SaverClient {
 public:
  virtual ~SaverClient() = default;
  // Documents that were found on disk, when the folder is opened.
  virtual void Adopt(std::vector<StoredDocument> found) = 0;
  // Nothing if there is no such document.
  virtual std::optional<UnsavedDocument> GetUnsaved(const std::string& id) = 0;
  // All files of `saved` are written. Returns the pages whose files are not wanted any more.
  virtual std::vector<StoredRead> SetSaved(const UnsavedDocument& saved) = 0;
  // Writing or removing files failed: the document has to be saved or removed again.
  virtual void SaveAgain(const std::string& id) = 0;
  // Nothing if there is no such document: then its files are to be removed.
  virtual std::optional<OwnersToSave> GetOwners(const std::string& id) = 0;
  // Chooses the document whose files go to make room for those of `id`; nothing if none may go.
  virtual std::optional<std::string> EvictFromDisk(const std::string& id) = 0;
  virtual uint64_t CountOnDisk() const = 0;
};

// Thread-safe.
class DocumentSaver {
 public:
  // `cache` must outlive the saver, and `client` must outlive Stop().
  DocumentSaver(DocumentCache* cache, SaverClient* client, ServerMetrics* metrics)
      : cache_(cache), client_(client), metrics_(metrics) {}
  ~DocumentSaver();
  DocumentSaver(const DocumentSaver&) = delete;
  DocumentSaver& operator=(const DocumentSaver&) = delete;

  // Opens the folder, which gives the client the documents that are there, and starts the thread.
  // Called once. A folder that cannot be opened now is tried again by the thread.
  void Start() ABSL_LOCKS_EXCLUDED(mutex_);

  // Something of the document is to be written, its files are to be removed, or nothing is to be
  // written any more.
  void SetUnsaved(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  void SetRemoved(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  void DropUnsaved(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);

  // Brings the disk's idea of a document's owners up to date at once: its meta file, or no files.
  absl::Status SaveOwners(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_, owners_mutex_);
  // Waits until everything is on disk; false if the disk fails.
  bool Flush() ABSL_LOCKS_EXCLUDED(mutex_);
  // Writes what is not yet on disk, unless the disk fails, and ends the thread.
  void Stop() ABSL_LOCKS_EXCLUDED(mutex_);
  void Publish() ABSL_LOCKS_EXCLUDED(mutex_, owners_mutex_);

 private:
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetAvailable(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::Status OpenFolder() ABSL_LOCKS_EXCLUDED(mutex_);
  void Loop() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status SaveNext() ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status Save(const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);
  absl::Status WriteFiles(const UnsavedDocument& unsaved) ABSL_LOCKS_EXCLUDED(mutex_);
  bool MakeRoom(uint64_t bytes, const std::string& id) ABSL_LOCKS_EXCLUDED(mutex_);

  DocumentCache* const cache_;
  SaverClient* const client_;
  ServerMetrics* const metrics_;
  // Orders writes and removals of meta files, and what is published of the disk. Taken before the
  // client's lock, which is taken before mutex_.
  Mutex owners_mutex_;
  mutable Mutex mutex_;
  std::set<std::string> unsaved_ ABSL_GUARDED_BY(mutex_);   // ids with something to write
  std::set<std::string> removals_ ABSL_GUARDED_BY(mutex_);  // ids with files to remove
  bool opened_ ABSL_GUARDED_BY(mutex_) = false;
  bool saving_ ABSL_GUARDED_BY(mutex_) = false;
  bool unavailable_ ABSL_GUARDED_BY(mutex_) = false;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace lectern
