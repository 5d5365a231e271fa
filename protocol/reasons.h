// Reasons of errors on which both client and server act. docs/reference/errors.md lists all
// reasons.
#pragma once

namespace lectern {

inline constexpr char kReasonInvalidRequest[] = "INVALID_REQUEST";
inline constexpr char kReasonDocumentNotFound[] = "DOCUMENT_NOT_FOUND";
inline constexpr char kReasonDocumentEvicted[] = "DOCUMENT_EVICTED";
inline constexpr char kReasonDraining[] = "DRAINING";

}  // namespace lectern
