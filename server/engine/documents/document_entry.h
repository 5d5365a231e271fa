// One document in the document store. Plain data, guarded by DocumentStore.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/engine/api.h"
#include "server/engine/documents/disk/document_cache.h"
#include "server/engine/documents/document.h"

namespace lectern {

struct DocumentEntry {
  CacheMeta meta;  // its holdings are never empty
  std::shared_ptr<const Model> model;
  std::shared_ptr<const DocumentContent> content;  // null: only on disk
  std::vector<std::shared_ptr<const DocumentKv>> reads;
  bool on_disk = false;
  std::vector<StoredRead> saved;
  absl::Time last_used;
  absl::Time last_saved;  // the last use that the disk knows about
  // Shared with every lease, so the use count less one is the number of leases. Differs between two
  // documents with one id, of which the first was deleted.
  std::shared_ptr<int> hold = std::make_shared<int>(0);

  bool pinned() const;
  bool in_use() const { return hold.use_count() > 1; }
  // Bytes of pages in memory.
  uint64_t bytes() const;
  // Bytes of pages in memory, or on disk and in memory once they are asked for.
  uint64_t held_bytes() const;
  bool IsSaved(const DocumentKv& read) const;
};

using DocumentEntries = std::map<std::string, DocumentEntry>;  // by id

// Returns the pages of that reading under `policy`, or null.
std::shared_ptr<const DocumentKv> FindKv(
    const std::vector<std::shared_ptr<const DocumentKv>>& reads, ReadingMode reading,
    const AttentionPolicy& policy);

// Returns the description of a document for the owner that has `holding`.
DocumentInfo InfoOf(const DocumentEntry& entry, const Ownership& holding);

// Returns the metadata of a document that has just been read.
CacheMeta MetaOf(const DocumentContent& content, ReadingMode reading);

// Returns the least recently used document for which `may_go` is true, or end().
DocumentEntries::iterator LeastRecentlyUsed(
    DocumentEntries& entries,
    const std::function<bool(const std::string& id, const DocumentEntry& entry)>& may_go);

}  // namespace lectern
