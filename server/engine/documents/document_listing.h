// Lists documents in pages.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "server/engine/api.h"
#include "server/engine/documents/document_entry.h"

namespace lectern {

struct ListRequest {
  uint32_t page_size = 0;  // 0: the default
  std::string page_token;  // of the page before, or empty
  std::string model;       // empty: documents of all models
  std::string owner;
};

// INVALID_ARGUMENT (INVALID_REQUEST) naming the wrong field.
absl::Status CheckListRequest(const ListRequest& request);

// One page of the owner's documents, in order of id. A page begins after the last id of the page
// before: a document that is added or deleted between two pages may be seen or not, every other one
// is seen exactly once. `request` has been checked.
DocumentPage ListPage(const DocumentEntries& entries, const ListRequest& request);

}  // namespace lectern
