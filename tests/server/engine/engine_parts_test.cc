// Tests of the engine's independent parts: pages, sentences, evidence, sampling, stop strings,
// checks.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/error_details.h"
#include "base/utf8.h"
#include "server/engine/answering/evidence.h"
#include "server/engine/answering/stop_strings.h"
#include "server/engine/kv_cache/page_pool.h"
#include "server/engine/request_checks.h"
#include "server/engine/text/sentences.h"
#include "tests/testing/fake_model.h"

namespace lectern {
namespace {

std::vector<std::string> Sentences(const std::string& text) {
  std::vector<std::string> out;
  for (const ByteRange& range : SplitSentences(text)) {
    out.push_back(text.substr(range.begin, range.end - range.begin));
  }
  return out;
}

std::string RandomText(std::mt19937& random, int pieces) {
  static const std::vector<std::string> kPieces = {"a",
                                                   "word ",
                                                   "Dr. ",
                                                   ". ",
                                                   "?!",
                                                   "\n",
                                                   "\n\n",
                                                   "\xe3\x80\x82",
                                                   "\xc3\xa9",
                                                   "\xe2\x80\x9d",
                                                   "3.",
                                                   " ",
                                                   "# ",
                                                   "- ",
                                                   "\"",
                                                   "...",
                                                   "\xf0\x9f\x98\x80",
                                                   "loooooooong"};
  std::string text;
  for (int i = 0; i < pieces; ++i) text += kPieces[random() % kPieces.size()];
  return text;
}

TEST(PagePoolTest, AccountsExactlyAndRefusesWhatDoesNotFit) {
  PagePool pool(10 * 4096);
  PageSet a, b, c;
  ASSERT_TRUE(pool.Allocate(1000, 4, a));
  EXPECT_EQ(pool.used(), 4 * 4096u);
  ASSERT_TRUE(pool.Allocate(8192, 3, b)) << "another page size, the same budget";
  EXPECT_EQ(pool.used(), 10 * 4096u);
  EXPECT_FALSE(pool.Allocate(1000, 1, c));
  EXPECT_EQ(c.size(), 0u);
  b = {};
  EXPECT_EQ(pool.used(), 4 * 4096u);
  EXPECT_TRUE(pool.Allocate(1000, 6, c));
  a = std::move(c);
  EXPECT_EQ(pool.used(), 6 * 4096u);
  a = {};
  EXPECT_EQ(pool.used(), 0u);
}

TEST(PagePoolTest, PagesAreAlignedAndNeverShared) {
  PagePool pool(64 * 4096);
  std::mt19937 random(1);
  std::vector<PageSet> sets(8);
  for (int round = 0; round < 500; ++round) {
    PageSet& set = sets[random() % sets.size()];
    set = {};
    if (!pool.Allocate(random() % 2 == 0 ? 4096 : 12288, 1 + random() % 4, set)) continue;
    std::set<std::byte*> all;
    uint64_t bytes = 0;
    for (const PageSet& s : sets) {
      bytes += s.bytes();
      for (std::byte* page : s.pages()) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(page) % 64, 0u);
        EXPECT_TRUE(all.insert(page).second);
        *page = std::byte{1};
      }
    }
    EXPECT_EQ(pool.used(), bytes);
    EXPECT_LE(bytes, pool.budget());
  }
}

TEST(SentencesTest, Cases) {
  using testing::ElementsAre;
  EXPECT_THAT(Sentences("One. Two! Three?"), ElementsAre("One.", "Two!", "Three?"));
  EXPECT_THAT(Sentences("He met Dr. Smith. They left."),
              ElementsAre("He met Dr. Smith.", "They left."));
  EXPECT_THAT(Sentences("It rose 3.5 percent."), ElementsAre("It rose 3.5 percent."));
  EXPECT_THAT(Sentences("\"Go.\" He went."), ElementsAre("\"Go.\"", "He went."));
  EXPECT_THAT(Sentences("no punctuation\n\nat all"), ElementsAre("no punctuation", "at all"));
  EXPECT_THAT(Sentences("a line\nthat goes on"), ElementsAre("a line\nthat goes on"));
  EXPECT_THAT(Sentences("\xe4\xb8\x80\xe3\x80\x82\xe4\xba\x8c\xe3\x80\x82"),
              ElementsAre("\xe4\xb8\x80\xe3\x80\x82", "\xe4\xba\x8c\xe3\x80\x82"));
  EXPECT_THAT(Sentences(" \n "), ElementsAre());
}

TEST(SentencesTest, RangesAreOrderedWholeCharactersAndCoverAllText) {
  std::mt19937 random(2);
  for (int round = 0; round < 500; ++round) {
    const std::string text = RandomText(random, round);
    uint64_t at = 0;
    for (const ByteRange& range : SplitSentences(text)) {
      ASSERT_LT(range.begin, range.end);
      ASSERT_LE(range.end - range.begin, kMaxSentenceBytes);
      ASSERT_LE(at, range.begin);
      EXPECT_EQ(text.substr(at, range.begin - at).find_first_not_of(" \t\n\r\f"),
                std::string::npos);
      EXPECT_TRUE(IsUtf8Boundary(text, range.begin) && IsUtf8Boundary(text, range.end));
      at = range.end;
    }
    EXPECT_EQ(text.substr(at).find_first_not_of(" \t\n\r\f"), std::string::npos);
  }
}

TEST(SentencesTest, LongRunsTakeLinearTime) {
  // Quadratic time would take hours and exceed the test's time limit.
  EXPECT_FALSE(SplitSentences(std::string(4 << 20, '.') + "x").empty());
  EXPECT_FALSE(SplitSentences(std::string(4 << 20, '\n') + "x").empty());
  EXPECT_FALSE(SplitSentences("." + std::string(4 << 20, '"') + "x").empty());
}

TEST(EvidenceTest, SpansStayInsideAndSharesAddUp) {
  std::mt19937 random(3);
  FakeTokenizer tokenizer;
  for (int round = 0; round < 200; ++round) {
    const std::string text = RandomText(random, 1 + round);
    const Encoding encoding = tokenizer.Encode(text, false);
    std::vector<float> mass(encoding.ids.size());
    for (float& m : mass) m = static_cast<float>(random() % 1000) / 1000;
    const auto sentences = SplitSentences(text);
    const Evidence all = RankEvidence(text, encoding, sentences, mass, 100000);
    double sum = 0, before = 2;
    for (const EvidenceSpan& span : all.spans) {
      ASSERT_LE(span.end_byte, text.size());
      EXPECT_EQ(text.substr(span.begin_byte, span.end_byte - span.begin_byte), span.text);
      EXPECT_TRUE(IsValidUtf8(span.text));
      EXPECT_LE(span.attention, before);
      before = span.attention;
      sum += span.attention;
    }
    EXPECT_LE(sum, 1 + 1e-6);
    const Evidence two = RankEvidence(text, encoding, sentences, mass, 2);
    EXPECT_EQ(two.spans.size(), std::min<size_t>(2, all.spans.size()));
    EXPECT_EQ(two.strength, all.strength);
  }
}

TEST(StopStringsTest, TheCutDoesNotDependOnThePieces) {
  std::mt19937 random(4);
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 30; ++i) text.push_back("abc"[random() % 3]);
    std::vector<std::string> stops;
    for (size_t i = 0; i <= random() % 3; ++i) {
      std::string stop;
      for (size_t j = 0; j <= random() % 4; ++j) stop.push_back("abc"[random() % 3]);
      stops.push_back(stop);
    }
    StopStrings whole(stops), pieces(stops);
    std::string expected = whole.Append(text);
    expected += whole.Finish();
    std::string shown;
    for (size_t at = 0; at < text.size();) {
      const size_t length = 1 + random() % 4;
      shown += pieces.Append(text.substr(at, length));
      at += length;
    }
    shown += pieces.Finish();
    EXPECT_EQ(shown, expected);
    EXPECT_EQ(pieces.found(), whole.found());
    EXPECT_EQ(text.compare(0, shown.size(), shown), 0);
    for (const std::string& stop : stops) EXPECT_EQ(shown.find(stop), std::string::npos);
  }
}

AskOptions Valid() { return {.document_id = "d", .question = "Q?"}; }

std::set<std::string> Violations(const AskOptions& options) {
  const absl::Status status = CheckAsk(options, {}, FakeModel().info());
  std::set<std::string> fields;
  for (const FieldViolation& v : GetErrorDetails(status).field_violations) fields.insert(v.field);
  EXPECT_EQ(status.ok(), fields.empty());
  EXPECT_TRUE(status.ok() || absl::IsInvalidArgument(status));
  return fields;
}

template <typename Value>
void Override(AskOptions& options, Value AttentionPolicy::*member,
              const std::type_identity_t<Value>& value) {
  options.attention.overrides.Set(member, value);
}

TEST(RequestChecksTest, EachFieldByItself) {
  using Change = void (*)(AskOptions&);
  const std::vector<std::pair<std::string, Change>> table = {
      {"question", [](AskOptions& o) { o.question = ""; }},
      {"question", [](AskOptions& o) { o.question = std::string((16 << 10) + 1, 'q'); }},
      {"question", [](AskOptions& o) { o.question = "\xff"; }},
      {"inline_text", [](AskOptions& o) { o.inline_text = ""; }},
      {"inline_text", [](AskOptions& o) { o.inline_text = "\xc3"; }},
      {"max_new_tokens", [](AskOptions& o) { o.max_new_tokens = 1025; }},
      {"max_evidence_spans", [](AskOptions& o) { o.max_evidence_spans = 33; }},
      {"no_answer_threshold", [](AskOptions& o) { o.no_answer_threshold = 0; }},
      {"stop", [](AskOptions& o) { o.stop.assign(9, "x"); }},
      {"stop[1]",
       [](AskOptions& o) {
         o.stop = {"x", ""};
       }},
      {"stop[0]", [](AskOptions& o) { o.stop = {std::string(65, 'x')}; }},
      {"sampling.temperature", [](AskOptions& o) { o.sampling.temperature = -0.1; }},
      {"sampling.temperature", [](AskOptions& o) { o.sampling.temperature = 2.1; }},
      {"sampling.temperature", [](AskOptions& o) { o.sampling.temperature = NAN; }},
      {"sampling.top_p", [](AskOptions& o) { o.sampling.top_p = 0; }},
      {"sampling.top_p", [](AskOptions& o) { o.sampling.top_p = 1.01; }},
      {"attention.top_k", [](AskOptions& o) { Override(o, &AttentionPolicy::top_k, 0); }},
      {"attention.top_k", [](AskOptions& o) { Override(o, &AttentionPolicy::top_k, 65537); }},
      {"attention.layer_top_k",
       [](AskOptions& o) { Override(o, &AttentionPolicy::layer_k, {-1}); }},
      {"attention.layer_top_k",
       [](AskOptions& o) {
         Override(o, &AttentionPolicy::layer_k, {1, 1, 1, 1});
       }},
      {"attention.ffn_top_k", [](AskOptions& o) { Override(o, &AttentionPolicy::ffn_top_k, 64); }},
      {"attention.page_budget",
       [](AskOptions& o) { Override(o, &AttentionPolicy::page_budget, 1 << 20); }},
      {"attention.dense_up_to",
       [](AskOptions& o) { Override(o, &AttentionPolicy::dense_up_to, -1); }},
      {"attention.max_error", [](AskOptions& o) { o.attention.max_error = 1.5; }},
      {"attention.max_error", [](AskOptions& o) { o.attention.max_error = NAN; }},
      {"attention.exact",
       [](AskOptions& o) {
         o.attention.exact = true;
         Override(o, &AttentionPolicy::top_k, 8);
       }},
  };
  EXPECT_EQ(Violations(Valid()), std::set<std::string>{});
  for (const auto& [field, change] : table) {
    AskOptions options = Valid();
    change(options);
    EXPECT_EQ(Violations(options), std::set<std::string>{field});
  }
}

TEST(RequestChecksTest, AllViolationsAtOnce) {
  AskOptions options = Valid();
  options.question = "";
  options.max_new_tokens = 100000;
  Override(options, &AttentionPolicy::top_k, 0);
  EXPECT_EQ(Violations(options),
            (std::set<std::string>{"question", "max_new_tokens", "attention.top_k"}));
}

TEST(RequestChecksTest, Uploads) {
  const ModelInfo model = FakeModel().info();
  const UploadOptions bad{.title = "\xff",
                          .expected_bytes = uint64_t{65} << 20,
                          .expected_sha256 = "12",
                          .ttl = -absl::Seconds(1)};
  const absl::Status status = CheckUpload(bad, {}, model);
  EXPECT_EQ(GetErrorDetails(status).field_violations.size(), 4u) << status;
  EXPECT_TRUE(CheckUpload({}, {}, model).ok());
}

TEST(RequestChecksTest, ResolvesToAPolicyWithNothingUnset) {
  using Policy = AttentionPolicy;
  using Overrides = PolicyOverrides;
  ModelInfo model = FakeModel().info();  // k = 8, layer 0 dense, tail mean
  const auto resolve = [&](const PolicyOverrides& overrides) {
    return ResolvePolicy({.overrides = overrides}, model);
  };
  EXPECT_EQ(resolve({}), model.default_policy);
  const PolicyOverrides k4 = Overrides().Set(&Policy::top_k, 4);
  EXPECT_EQ(resolve(k4), (Policy{4, {0}, Policy::Tail::kMean}));
  EXPECT_EQ(resolve(Overrides(k4).Set(&Policy::layer_k, {4, 4, 4})),
            (Policy{4, {}, Policy::Tail::kMean}));
  EXPECT_EQ(resolve(Overrides().Set(&Policy::layer_k, {0, 0, 0})), Policy::Exact());
  EXPECT_EQ(ResolvePolicy({.exact = true}, model), Policy::Exact());
  model.default_policy.dense_up_to = 100;
  EXPECT_EQ(resolve({}), model.default_policy);
  EXPECT_EQ(resolve(Overrides().Set(&Policy::tail, Policy::Tail::kNone)).dense_up_to, 100);
  EXPECT_EQ(resolve(k4).dense_up_to, 0);
  EXPECT_EQ(resolve(Overrides().Set(&Policy::layer_k, {4, 5})).dense_up_to, 0);
  EXPECT_EQ(resolve(Overrides(k4).Set(&Policy::dense_up_to, 7)).dense_up_to, 7);
  EXPECT_EQ(resolve(Overrides().Set(&Policy::dense_up_to, 0)).dense_up_to, 0);
}

}  // namespace
}  // namespace lectern
