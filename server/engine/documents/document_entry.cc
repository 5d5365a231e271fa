#include "server/engine/documents/document_entry.h"

#include <algorithm>

namespace lectern {

bool DocumentEntry::pinned() const {
  return std::any_of(meta.holdings.begin(), meta.holdings.end(),
                     [](const auto& holding) { return holding.second.pinned; });
}

uint64_t DocumentEntry::bytes() const {
  uint64_t bytes = 0;
  for (const auto& read : reads) bytes += read->bytes();
  return bytes;
}

uint64_t DocumentEntry::held_bytes() const {
  uint64_t bytes = 0;
  for (const auto& read : reads) {
    if (!IsSaved(*read)) bytes += read->bytes();
  }
  for (const StoredRead& read : saved) bytes += read.device_bytes;
  return bytes;
}

bool DocumentEntry::IsSaved(const DocumentKv& read) const {
  return std::any_of(saved.begin(), saved.end(), [&](const StoredRead& stored) {
    return stored.reading == read.reading && stored.policy == read.policy;
  });
}

std::shared_ptr<const DocumentKv> FindKv(
    const std::vector<std::shared_ptr<const DocumentKv>>& reads, ReadingMode reading,
    const AttentionPolicy& policy) {
  for (const auto& read : reads) {
    if (read->reading == reading && read->policy == policy) return read;
  }
  return nullptr;
}

DocumentInfo InfoOf(const DocumentEntry& entry, const Ownership& holding) {
  const CacheMeta& meta = entry.meta;
  DocumentInfo info{
      .id = meta.identity.id,
      .title = holding.title,
      .model = meta.model,
      .bytes = meta.text_bytes,
      .tokens = meta.tokens,
      .chunks = static_cast<uint32_t>(meta.reading == ReadingMode::kChunks ? meta.chunks : 1),
      .device_bytes = entry.bytes(),
      .sha256 = meta.sha256,
      .create_time = holding.created,
      .last_use_time = entry.last_used,
      .expire_time = holding.expires,
      .pinned = holding.pinned,
      .reading = meta.reading};
  for (const auto& read : entry.reads) info.read_under.push_back(read->policy);
  for (const StoredRead& read : entry.saved) {
    if (FindKv(entry.reads, read.reading, read.policy) != nullptr) continue;
    info.read_under.push_back(read.policy);
  }
  return info;
}

CacheMeta MetaOf(const DocumentContent& content, ReadingMode reading) {
  const ModelInfo& info = content.model->info();
  return {.identity = {.id = content.id, .fingerprint = info.fingerprint},
          .model = info.name,
          .sha256 = content.sha256,
          .text_bytes = content.text.size(),
          .tokens = content.encoding.ids.size(),
          .chunks = content.chunks.size(),
          .reading = reading};
}

DocumentEntries::iterator LeastRecentlyUsed(
    DocumentEntries& entries,
    const std::function<bool(const std::string& id, const DocumentEntry& entry)>& may_go) {
  auto oldest = entries.end();
  for (auto entry = entries.begin(); entry != entries.end(); ++entry) {
    if (!may_go(entry->first, entry->second)) continue;
    if (oldest == entries.end() || entry->second.last_used < oldest->second.last_used) {
      oldest = entry;
    }
  }
  return oldest;
}

}  // namespace lectern
