// The page of `lectern ask --report`: escaping, marks and omissions.
#include "client/cli/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <optional>
#include <string>
#include <string_view>

namespace lectern {
namespace {

using lectern::v1::Answer;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

void AddEvidence(Answer& answer, size_t begin, size_t end, double attention,
                 std::string_view text = "") {
  auto* span = answer.add_evidence();
  span->set_begin_byte(begin);
  span->set_end_byte(end);
  span->set_attention(attention);
  span->set_text(std::string(text));
}

std::string Page(const Answer& answer, std::optional<std::string_view> text,
                 const std::string& question = "When?") {
  return ReportPage({.question = question,
                     .answer = answer,
                     .title = "log.txt",
                     .text = text,
                     .time = absl::UnixEpoch()});
}

// The document's section of a page.
std::string DocumentOf(const std::string& page) {
  const size_t begin = page.find("<div class=\"text\"");
  const size_t end = page.find("</section>", begin);
  return begin == std::string::npos ? "" : page.substr(begin, end - begin);
}

// The visible text of `html`, without the numbers of the evidence.
std::string TextOf(std::string html) {
  for (size_t at; (at = html.find("<a class=\"place\"")) != std::string::npos;) {
    html.erase(at, html.find("</a>", at) + 4 - at);
  }
  std::string text;
  bool tag = false;
  for (const char c : html) {
    if (c == '<') tag = true;
    if (!tag) text += c;
    if (c == '>') tag = false;
  }
  return text;
}

size_t Count(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++count;
  return count;
}

constexpr char kHostile[] = "</div><script>alert(1)</script><img src=x onerror='a()'>\"&amp;";

TEST(EscapeHtmlTest, EscapesMarkupAndCharactersThatHideText) {
  EXPECT_EQ(EscapeHtml("a<b>&\"'\n\tz"), "a&lt;b&gt;&amp;&quot;&#39;\n\tz");
  EXPECT_EQ(EscapeHtml(std::string_view("\0\x1b[2J\x7f", 6)), "␀␛[2J␡");
  EXPECT_EQ(EscapeHtml("a\r\nb\rc"), "a\nb␍c");
  EXPECT_EQ(EscapeHtml("x\xc2\x9bz"), "x\ufffdz");                  // a C1 control
  EXPECT_EQ(EscapeHtml("a\u202eb\u2066c"), "a[U+202E]b[U+2066]c");  // reordered text
  EXPECT_EQ(EscapeHtml("\xe2\x82 \xff ü"), "\ufffd \ufffd ü");      // ill-formed
}

TEST(ReportTest, HostileTextOfEveryOriginIsEscaped) {
  Answer answer;
  answer.set_text(kHostile);
  answer.set_model(kHostile);
  answer.set_document_id(kHostile);
  answer.mutable_exactness()->set_numerics(kHostile);
  answer.mutable_exactness()->set_kv_cache(kHostile);
  AddEvidence(answer, 0, 20, 0.5, kHostile);
  const std::string page = ReportPage({.question = kHostile,
                                       .answer = answer,
                                       .title = kHostile,
                                       .text = std::string_view(kHostile),
                                       .time = absl::UnixEpoch()});
  EXPECT_THAT(page, AllOf(Not(HasSubstr("<script")), Not(HasSubstr("<img")),
                          Not(HasSubstr("onerror='")), HasSubstr("&lt;script&gt;")));
  EXPECT_EQ(Count(page, "&lt;script&gt;"), 10u);
}

TEST(ReportTest, ThePageMayLoadNothingAndItsStyleIsTheOneOfThePolicy) {
  const std::string page = Page(Answer(), "text");
  EXPECT_THAT(page, HasSubstr("default-src 'none'; style-src 'sha256-"));
  EXPECT_THAT(page,
              AllOf(Not(HasSubstr("http:")), Not(HasSubstr("https:")), Not(HasSubstr("url(")),
                    Not(HasSubstr("src=")), Not(HasSubstr("style=\"")), Not(HasSubstr("@import"))));
}

TEST(ReportTest, EvidenceIsMarkedInItsPlaceAndLinkedBothWays) {
  const std::string text = "One. Two & two. Three.";
  Answer answer;
  AddEvidence(answer, 5, 15, 0.4, "Two & two.");
  AddEvidence(answer, 0, 4, 0.1, "One.");
  const std::string page = Page(answer, text);
  const std::string document = DocumentOf(page);
  EXPECT_THAT(document, HasSubstr("<mark class=\"heat-5\">Two &amp; two.</mark> Three."));
  EXPECT_THAT(document, HasSubstr("<mark class=\"heat-2\">One.</mark>"));
  for (const char* link : {"id=\"evidence-1\"", "id=\"evidence-2\"", "id=\"card-1\"",
                           "id=\"card-2\"", "href=\"#card-1\"", "href=\"#card-2\""}) {
    EXPECT_EQ(Count(page, link), 1u) << link;
  }
  EXPECT_EQ(Count(page, "href=\"#evidence-1\""), 2u);  // from the list and from the map
  EXPECT_THAT(page, HasSubstr("<strong>40.0&#8239;%</strong>"));
  EXPECT_EQ(TextOf(document), "One. Two &amp; two. Three.\n");
}

TEST(ReportTest, WhereSpansOverlapTheStrongerShadeCounts) {
  Answer answer;
  AddEvidence(answer, 0, 6, 1.0);
  AddEvidence(answer, 4, 9, 0.2);
  AddEvidence(answer, 4, 9, 0.5);
  const std::string document = DocumentOf(Page(answer, "abcdefghij"));
  EXPECT_EQ(Count(document, "<mark"), Count(document, "</mark>"));
  EXPECT_THAT(document, AllOf(HasSubstr("<mark class=\"heat-5\">abcd</mark>"),
                              HasSubstr("<mark class=\"heat-5\">ef</mark>"),
                              HasSubstr("<mark class=\"heat-3\">ghi</mark>j")));
  EXPECT_EQ(TextOf(document), "abcdefghij\n");
}

TEST(ReportTest, SpansThatCutACharacterOrLeaveTheTextAreBroughtBack) {
  const std::string text = "a€b";  // bytes 1 to 4 are one character
  Answer answer;
  AddEvidence(answer, 2, 3, 1);
  AddEvidence(answer, 4, 1000, 1);
  AddEvidence(answer, ~uint64_t{0}, 0, 1);
  const std::string document = DocumentOf(Page(answer, text));
  EXPECT_THAT(document, HasSubstr("<mark class=\"heat-5\">€</mark>"));
  EXPECT_THAT(document, HasSubstr("<mark class=\"heat-5\">b</mark>"));
  EXPECT_EQ(TextOf(document), "a€b\n");
  EXPECT_EQ(Count(document, "id=\"evidence-3\""), 1u);
}

TEST(ReportTest, AttentionThatIsNotANumberStillHasAShade) {
  Answer answer;
  AddEvidence(answer, 0, 1, std::numeric_limits<double>::quiet_NaN());
  AddEvidence(answer, 1, 2, -1);
  EXPECT_EQ(Count(DocumentOf(Page(answer, "ab")), "heat-1"), 2u);
}

TEST(ReportTest, LongTextsAreShownAroundTheEvidence) {
  std::string text(kWholeTextBytes + 1, 'x');
  text.replace(3'000'000, 3, "yyy");
  text.replace(3'002'000, 3, "zzz");
  Answer answer;
  AddEvidence(answer, 3'000'000, 3'000'003, 1);
  AddEvidence(answer, 3'002'000, 3'002'003, 1);
  AddEvidence(answer, 0, 1, 1);
  const std::string page = Page(answer, text);
  EXPECT_LT(page.size(), 40'000u);
  EXPECT_THAT(page, AllOf(HasSubstr(">yyy</mark>"), HasSubstr(">zzz</mark>"),
                          HasSubstr("2,991,807 bytes not shown")));
  EXPECT_EQ(Count(page, "bytes not shown"), 2u);
  for (const char* id : {"id=\"evidence-1\"", "id=\"evidence-2\"", "id=\"evidence-3\""}) {
    EXPECT_EQ(Count(page, id), 1u) << id;
  }
}

TEST(ReportTest, WithoutTheTextThereAreNoLinksIntoIt) {
  Answer answer;
  AddEvidence(answer, 5, 9, 1, "Two.");
  const std::string page = Page(answer, std::nullopt);
  EXPECT_THAT(page, AllOf(HasSubstr("Two."), HasSubstr("Bytes 5&#8211;9"), HasSubstr("--file=FILE"),
                          Not(HasSubstr("#evidence-1"))));
}

TEST(ReportTest, DoubtsExactnessAndTimesAreShown) {
  Answer answer;
  answer.set_no_evidence(true);
  answer.set_finish_reason(Answer::FINISH_REASON_LENGTH);
  answer.mutable_exactness()->set_kept_mass_mean(0.9876);
  answer.mutable_exactness()->set_kept_mass_min(0.5);
  answer.mutable_exactness()->mutable_policy()->set_top_k(64);
  answer.mutable_timings()->mutable_total()->set_seconds(2);
  const std::string page = Page(answer, "");
  EXPECT_THAT(
      page, AllOf(HasSubstr("does not seem to answer"), HasSubstr("truncated at its length limit"),
                  HasSubstr("0.988 mean, 0.500 minimum"), HasSubstr("<dd>k = 64</dd>"),
                  HasSubstr("<dt>Total</dt><dd>2.00 s</dd>")));
  answer.mutable_exactness()->set_exact(true);
  EXPECT_THAT(Page(answer, ""), HasSubstr("1 (every key was kept)"));
}

TEST(ReportTest, NoAnswerIsSaidWithTheScores) {
  Answer answer;
  answer.set_no_evidence(true);
  answer.set_finish_reason(Answer::FINISH_REASON_NO_ANSWER);
  EXPECT_THAT(Page(answer, ""),
              HasSubstr("The document holds no answer: no span of it could be one."));
  answer.set_null_score_difference(-0.25);
  const std::string page = Page(answer, "");
  EXPECT_THAT(page, HasSubstr("the score of &quot;no answer&quot; is 0.25 below that of the best"));
  EXPECT_THAT(page, Not(HasSubstr("does not seem to answer")));
}

}  // namespace
}  // namespace lectern
