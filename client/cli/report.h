// Renders an answer as an HTML page: question, answer, evidence in its place in the document,
// exactness and timings.
//
// The page is one file without scripts, and its Content-Security-Policy lets a browser load
// nothing: the policy allows a single style, by its digest. All text is escaped; characters that
// would hide or reorder text are shown explicitly.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <optional>
#include <string>
#include <string_view>

#include "absl/time/time.h"

namespace lectern {

struct Report {
  std::string question;
  const lectern::v1::Answer& answer;
  std::string title;  // the document's; may be empty
  // The document's bytes, into which the offsets of evidence point. Without them the page shows
  // only the evidence.
  std::optional<std::string_view> text;
  absl::Time time;
};

// For longer texts the page shows only the surroundings of the evidence.
inline constexpr size_t kWholeTextBytes = 4u << 20;

std::string ReportPage(const Report& report);

// Escapes `text` for the content of an HTML element or a quoted attribute. Ill-formed UTF-8 becomes
// U+FFFD, control characters other than line feeds and tabs become their pictures (from U+2400),
// and characters that change the direction of text are spelled out: "[U+202E]".
std::string EscapeHtml(std::string_view text);

// The style of every page.
std::string_view ReportStyle();

}  // namespace lectern
