#include "client/cli/report.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "base/hashing/sha256.h"
#include "base/utf8.h"
#include "client/cli/printer.h"
#include "client/cli/progress.h"

namespace lectern {
namespace {

using lectern::v1::Answer;
using lectern::v1::EvidenceSpan;

constexpr size_t kSurroundingBytes = 4096;  // shown on both sides of evidence in a long text
constexpr int kLevels = 5;                  // shades: .heat-1 to .heat-5
constexpr double kMapWidth = 1000;

struct Range {
  size_t begin = 0, end = 0;  // bytes of the text
};

// True for characters that could make a text look like another one.
bool ChangesDirection(char32_t c) {
  return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069);
}

void AppendEscaped(char32_t c, std::string& out) {
  if (c == '&') {
    out += "&amp;";
  } else if (c == '<') {
    out += "&lt;";
  } else if (c == '>') {
    out += "&gt;";
  } else if (c == '"') {
    out += "&quot;";
  } else if (c == '\'') {
    out += "&#39;";
  } else if (c < 0x20 && c != '\n' && c != '\t') {
    AppendUtf8(0x2400 + c, out);
  } else if (c == 0x7f) {
    AppendUtf8(0x2421, out);
  } else if (c > 0x7f && c < 0xa0) {
    AppendUtf8(0xfffd, out);
  } else if (ChangesDirection(c)) {
    absl::StrAppendFormat(&out, "[U+%04X]", static_cast<uint32_t>(c));
  } else {
    AppendUtf8(c, out);
  }
}

size_t CharacterBegin(std::string_view text, size_t at) {
  while (!IsUtf8Boundary(text, at)) --at;
  return at;
}

size_t CharacterEnd(std::string_view text, size_t at) {
  while (!IsUtf8Boundary(text, at)) ++at;
  return at;
}

// The range of a span, clamped to `text` and to character boundaries whatever the server sent.
Range RangeOf(const EvidenceSpan& span, std::string_view text) {
  const size_t begin = std::min<size_t>(span.begin_byte(), text.size());
  const size_t end = std::clamp<size_t>(span.end_byte(), begin, text.size());
  return {CharacterBegin(text, begin), CharacterEnd(text, end)};
}

// The shade of a span, from its attention relative to the strongest span's.
int LevelOf(const EvidenceSpan& span, const Answer& answer) {
  double most = 0;
  for (const EvidenceSpan& other : answer.evidence()) most = std::max(most, other.attention());
  const double share = span.attention() / most;
  return share > 0 ? std::clamp(static_cast<int>(std::ceil(share * kLevels)), 1, kLevels) : 1;
}

std::string Percent(double share) { return absl::StrFormat("%.1f&#8239;%%", share * 100); }

std::string Number(int index) { return absl::StrCat(index + 1); }

// The parts of the text shown, in order: all of it, or the surroundings of the evidence.
std::vector<Range> ShownRanges(const std::vector<Range>& spans, std::string_view text) {
  if (text.size() <= kWholeTextBytes) return {{0, text.size()}};
  std::vector<Range> wide;
  for (const Range& span : spans) {
    const size_t before = std::min(span.begin, kSurroundingBytes);
    const size_t after = std::min(text.size() - span.end, kSurroundingBytes);
    wide.push_back(
        {CharacterBegin(text, span.begin - before), CharacterEnd(text, span.end + after)});
  }
  std::sort(wide.begin(), wide.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  std::vector<Range> shown;
  for (const Range& range : wide) {
    if (shown.empty() || range.begin > shown.back().end) {
      shown.push_back(range);
    } else {
      shown.back().end = std::max(shown.back().end, range.end);
    }
  }
  return shown;
}

// The document with its evidence marked.
class MarkedText {
 public:
  MarkedText(const Answer& answer, std::string_view text) : answer_(answer), text_(text) {
    for (const EvidenceSpan& span : answer.evidence()) spans_.push_back(RangeOf(span, text));
  }

  std::string Html() const {
    std::string html;
    size_t at = 0;
    for (const Range& range : ShownRanges(spans_, text_)) {
      AppendGap(at, range.begin, html);
      absl::StrAppend(&html, "<div class=\"text\" dir=\"auto\">");
      AppendPart(range, html);
      absl::StrAppend(&html, "</div>\n");
      at = range.end;
    }
    AppendGap(at, text_.size(), html);
    return html;
  }

  // A strip that shows where in the document the evidence is.
  std::string Map() const {
    std::string html =
        "<svg class=\"map\" viewBox=\"0 0 1000 16\" preserveAspectRatio=\"none\" "
        "aria-hidden=\"true\">";
    const double scale = kMapWidth / static_cast<double>(std::max<size_t>(text_.size(), 1));
    for (int i = answer_.evidence_size() - 1; i >= 0; --i) {  // the strongest is drawn last
      const double width =
          std::max(scale * static_cast<double>(spans_[i].end - spans_[i].begin), 5.);
      const double x = std::min(scale * static_cast<double>(spans_[i].begin), kMapWidth - width);
      absl::StrAppendFormat(&html,
                            "<a href=\"#evidence-%d\" tabindex=\"-1\"><rect class=\"heat-%d\" "
                            "x=\"%.1f\" width=\"%.1f\" height=\"16\"><title>Evidence %d</title>"
                            "</rect></a>",
                            i + 1, LevelOf(answer_.evidence(i), answer_), x, width, i + 1);
    }
    return html + "</svg>\n";
  }

 private:
  static void AppendGap(size_t begin, size_t end, std::string& html) {
    if (begin == end) return;
    absl::StrAppend(&html, "<p class=\"gap\">", WithCommas(end - begin), " bytes not shown</p>\n");
  }

  // Spans may overlap; each piece between two boundaries takes the shade of its strongest span.
  void AppendPart(const Range& part, std::string& html) const {
    std::vector<size_t> cuts = {part.begin, part.end};
    for (const Range& span : spans_) {
      for (const size_t cut : {span.begin, span.end}) {
        if (cut > part.begin && cut < part.end) cuts.push_back(cut);
      }
    }
    std::sort(cuts.begin(), cuts.end());
    cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());
    for (size_t i = 0; i < cuts.size(); ++i) {
      AppendAnchors(cuts[i], html);
      if (i + 1 < cuts.size()) AppendPiece({cuts[i], cuts[i + 1]}, html);
    }
  }

  void AppendAnchors(size_t at, std::string& html) const {
    for (size_t i = 0; i < spans_.size(); ++i) {
      if (spans_[i].begin != at) continue;
      const std::string number = Number(static_cast<int>(i));
      absl::StrAppend(&html, "<a class=\"place\" id=\"evidence-", number, "\" href=\"#card-",
                      number, "\" aria-label=\"Evidence ", number, ", back to the list\">", number,
                      "</a>");
    }
  }

  void AppendPiece(const Range& piece, std::string& html) const {
    int level = 0;
    for (size_t i = 0; i < spans_.size(); ++i) {
      if (spans_[i].begin <= piece.begin && piece.end <= spans_[i].end) {
        level = std::max(level, LevelOf(answer_.evidence(static_cast<int>(i)), answer_));
      }
    }
    const std::string text = EscapeHtml(text_.substr(piece.begin, piece.end - piece.begin));
    absl::StrAppend(
        &html,
        level == 0 ? text : absl::StrCat("<mark class=\"heat-", level, "\">", text, "</mark>"));
  }

  const Answer& answer_;
  const std::string_view text_;
  std::vector<Range> spans_;  // one per piece of evidence, in the answer's order
};

std::string Cards(const Answer& answer, bool links) {
  if (answer.evidence().empty())
    return "<p class=\"quiet\">No evidence was requested or found.</p>\n";
  std::string html = "<ol class=\"cards\">\n";
  for (int i = 0; i < answer.evidence_size(); ++i) {
    const EvidenceSpan& span = answer.evidence(i);
    const std::string number = Number(i);
    const std::string place = absl::StrCat("Bytes ", WithCommas(span.begin_byte()), "&#8211;",
                                           WithCommas(span.end_byte()));
    absl::StrAppend(
        &html, "<li id=\"card-", number,
        "\" class=\"card\"><p class=\"rank\"><span class=\"badge heat-", LevelOf(span, answer),
        "\">", number, "</span> <strong>", Percent(span.attention()),
        "</strong> of the attention</p>\n<blockquote dir=\"auto\">", EscapeHtml(span.text()),
        "</blockquote>\n<p class=\"quiet\">",
        links ? absl::StrCat("<a href=\"#evidence-", number, "\">", place, " in the document</a>")
              : place,
        "</p></li>\n");
  }
  return html + "</ol>\n";
}

std::string Notes(const Answer& answer) {
  std::string html;
  if (IsNoAnswer(answer)) {
    absl::StrAppend(&html, "<p class=\"note\">The document holds no answer: ",
                    EscapeHtml(NullScoreText(answer)), ".</p>\n");
  } else if (answer.no_evidence()) {
    html +=
        "<p class=\"note\">The document does not seem to answer this: its best evidence lacks the "
        "question&#8217;s words.</p>\n";
  }
  if (answer.finish_reason() == Answer::FINISH_REASON_LENGTH) {
    html += "<p class=\"note\">The answer was truncated at its length limit.</p>\n";
  }
  return html;
}

void AppendFact(std::string_view name, const std::string& value, std::string& html) {
  absl::StrAppend(&html, "<div><dt>", std::string(name), "</dt><dd>", value, "</dd></div>\n");
}

// Appends a row to one of the two lists of facts; `value` is HTML.
std::string ExactnessFacts(const Answer& answer) {
  const auto& exactness = answer.exactness();
  std::string html = "<dl>\n";
  AppendFact("Attention", EscapeHtml(PolicyText(exactness.policy())), html);
  if (exactness.exact()) {
    AppendFact("Kept mass", "1 (every key was kept)", html);
  } else {
    AppendFact("Kept mass",
               absl::StrFormat("%.3f mean, %.3f minimum", exactness.kept_mass_mean(),
                               exactness.kept_mass_min()),
               html);
  }
  if (exactness.fell_back_to_exact()) {
    AppendFact("Fell back", "to dense attention, because the error exceeded the limit", html);
  }
  AppendFact("Weights, keys and values",
             EscapeHtml(absl::StrCat(exactness.numerics(), ", ", exactness.kv_cache())), html);
  AppendFact("Share of the document considered", Percent(answer.considered_ratio()), html);
  AppendFact("Question&#8217;s words in the evidence", Percent(answer.question_coverage()), html);
  return html + "</dl>\n";
}

std::string TimingFacts(const Answer& answer) {
  const auto& timings = answer.timings();
  const auto& usage = answer.usage();
  std::string html = "<dl>\n";
  AppendFact("First text", ShortTime(timings.time_to_first_text()), html);
  AppendFact("Total", ShortTime(timings.total()), html);
  AppendFact("Queue, prefill, decode",
             absl::StrCat(ShortTime(timings.queue()), ", ", ShortTime(timings.prefill()), ", ",
                          ShortTime(timings.decode())),
             html);
  AppendFact("Generated",
             absl::StrFormat("%d tokens, %.0f per second", usage.generated_tokens(),
                             timings.decode_tokens_per_second()),
             html);
  AppendFact("Prompt",
             absl::StrCat(WithCommas(usage.document_tokens() + usage.question_tokens()),
                          " tokens, of which ", WithCommas(usage.tokens_reused()), " were reused"),
             html);
  AppendFact("Model", EscapeHtml(answer.model()), html);
  return html + "</dl>\n";
}

std::string DocumentSection(const Report& report) {
  std::string html =
      "<section id=\"document\" aria-labelledby=\"document-heading\">\n"
      "<h2 id=\"document-heading\">Document</h2>\n";
  if (!report.text) {
    return html +
           "<p class=\"quiet\">The server returns no texts, so this page shows only the "
           "evidence. With <code>lectern ask --file=FILE --report=&#8230;</code> it shows the "
           "whole "
           "document.</p>\n</section>\n";
  }
  const MarkedText marked(report.answer, *report.text);
  absl::StrAppend(
      &html, marked.Map(),
      "<p class=\"quiet legend\">Evidence is marked, darker where the question attended "
      "more. The strip shows its place in the document.</p>\n",
      marked.Html(), "</section>\n");
  return html;
}

std::string Head(const Report& report) {
  const std::string style(ReportStyle());
  const std::string digest = absl::Base64Escape(absl::HexStringToBytes(Sha256Hex(ReportStyle())));
  return absl::StrCat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src "
      "'sha256-",
      digest,
      "'; base-uri 'none'; form-action 'none'\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      "<meta name=\"referrer\" content=\"no-referrer\">\n<title>",
      EscapeHtml(report.question), "</title>\n<style>", style, "</style>\n</head>\n");
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  while (!text.empty()) {
    const size_t length = Utf8CharLength(text);
    if (length == 0) {
      AppendUtf8(0xfffd, out);
      text.remove_prefix(Utf8IllFormedLength(text));
      continue;
    }
    // A browser would collapse the two into one line feed.
    if (text.substr(0, 2) != "\r\n") AppendEscaped(Utf8CodePoint(text), out);
    text.remove_prefix(length);
  }
  return out;
}

std::string ReportPage(const Report& report) {
  const Answer& answer = report.answer;
  const std::string name = report.title.empty() ? "Document" : report.title;
  std::string about = absl::StrCat("<strong>", EscapeHtml(name), "</strong>");
  if (report.text) absl::StrAppend(&about, ", ", WithCommas(report.text->size()), " bytes");
  if (!answer.document_id().empty()) {
    absl::StrAppend(&about, " &#183; <code>", EscapeHtml(answer.document_id()), "</code>");
  }
  absl::StrAppend(&about, " &#183; ",
                  absl::FormatTime("%Y-%m-%d %H:%M UTC", report.time, absl::UTCTimeZone()));
  return absl::StrCat(
      Head(report),
      "<body>\n<a class=\"skip\" href=\"#document\">Skip to the document</a>\n<header>\n"
      "<p class=\"brand\">Lectern <span>answer from a document</span></p>\n<h1 dir=\"auto\">",
      EscapeHtml(report.question), "</h1>\n<p class=\"quiet\">", about, "</p>\n</header>\n<main>\n",
      "<div class=\"side\">\n<section aria-labelledby=\"answer-heading\">\n"
      "<h2 id=\"answer-heading\">Answer</h2>\n<div class=\"answer\" dir=\"auto\">",
      EscapeHtml(answer.text()), "</div>\n", Notes(answer),
      "</section>\n<section aria-labelledby=\"evidence-heading\">\n"
      "<h2 id=\"evidence-heading\">Evidence</h2>\n",
      Cards(answer, report.text.has_value()),
      "</section>\n<section aria-labelledby=\"exactness-heading\">\n"
      "<h2 id=\"exactness-heading\">Exactness</h2>\n",
      ExactnessFacts(answer),
      "<p class=\"quiet\">Kept mass: the share of the dense softmax that the kept keys hold; 1 is "
      "exact.</p>\n</section>\n<section aria-labelledby=\"timings-heading\">\n"
      "<h2 id=\"timings-heading\">Timings</h2>\n",
      TimingFacts(answer), "</section>\n</div>\n", DocumentSection(report),
      "</main>\n</body>\n</html>\n");
}

}  // namespace lectern
