// An answer as a page: question, answer, evidence in its place in the document, exactness and
// times.
//
// The page is one file without scripts, and its Content-Security-Policy lets a browser load
// nothing: the only style is the one whose digest stands in the policy. All text is escaped;
// characters that would hide or reorder text are shown as what they are.
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
  std::string title;  // of the document; may be empty
  // The document's bytes, which evidence counts. Without them the page shows the evidence alone.
  std::optional<std::string_view> text;
  absl::Time time;
};

// Of texts beyond this size a page holds the surroundings of the evidence alone.
inline constexpr size_t kWholeTextBytes = 4u << 20;

std::string ReportPage(const Report& report);

// `text` for an HTML element's content or a quoted attribute. Ill-formed UTF-8 becomes U+FFFD,
// control characters but line feeds and tabs become their pictures (U+2400 on), and those that
// change the direction of text are written out: "[U+202E]".
std::string EscapeHtml(std::string_view text);

// The style of every page.
std::string_view ReportStyle();

}  // namespace lectern
