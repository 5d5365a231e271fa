#include "server/engine/documents/document_listing.h"

#include "absl/strings/str_cat.h"
#include "base/error_details.h"
#include "protocol/reasons.h"

namespace lectern {
namespace {

constexpr uint32_t kDefaultPageSize = 100;
constexpr uint32_t kMaxPageSize = 1000;

}  // namespace

absl::Status CheckListRequest(const ListRequest& request) {
  // The token is the id of the last document of the page before; ids have one form.
  if (!request.page_token.empty() && !IsDocumentId(request.page_token)) {
    return MakeError(absl::StatusCode::kInvalidArgument, "page_token is not one of this server's",
                     {.reason = kReasonInvalidRequest,
                      .field_violations = {{"page_token", "must come from a previous page"}}});
  }
  if (request.page_size > kMaxPageSize) {
    return MakeError(
        absl::StatusCode::kInvalidArgument,
        absl::StrCat("page_size must be at most ", kMaxPageSize),
        {.reason = kReasonInvalidRequest,
         .field_violations = {{"page_size", absl::StrCat("must be 0 to ", kMaxPageSize)}}});
  }
  return absl::OkStatus();
}

DocumentPage ListPage(const DocumentEntries& entries, const ListRequest& request) {
  const uint32_t page_size = request.page_size == 0 ? kDefaultPageSize : request.page_size;
  DocumentPage page;
  for (const auto& [id, entry] : entries) {
    if (!request.model.empty() && entry.meta.model != request.model) continue;
    const auto holding = entry.meta.holdings.find(request.owner);
    if (holding == entry.meta.holdings.end()) continue;
    ++page.total;
    if (!request.page_token.empty() && id <= request.page_token) continue;
    if (page.documents.size() == page_size) {
      page.next_page_token = page.documents.back().id;
      continue;  // only counted
    }
    page.documents.push_back(InfoOf(entry, holding->second));
  }
  return page;
}

}  // namespace lectern
