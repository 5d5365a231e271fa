// The table of commands and options of `lectern`.
#include <google/protobuf/descriptor.h>

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "base/files/mapped_file.h"
#include "client/cli/options.h"

namespace lectern {
namespace {

using lectern::v1::AskRequest;
using lectern::v1::AttentionPolicy;

constexpr char kIntroduction[] =
    R"(lectern asks questions about long documents that a Lectern server has read.

Usage: lectern COMMAND [WORDS] [FLAGS]

Start here:
  lectern upload report.txt                     send a document; prints its id
  lectern ask doc-0f3a... "Who called first?"   ask about it, as often as you like
  lectern ask --file=report.txt "Who called?"   both in one
)";

constexpr char kClosing[] =
    R"(
Exit status: 0 done; 1 the server refused or failed; 2 wrong usage, or a file that cannot be
read or written; 3 no connection; 130 interrupted. Errors go to stderr.
)";

constexpr char kUploadNotes[] =
    R"(
The text must be UTF-8; `-` reads standard input. The same text always has the same id and is read
only once. The attention flags choose the policy under which it is read first.
)";

constexpr char kCountNotes[] =
    R"(
Says whether the text would be read whole or in chunks. It must fit into one message of the server
(4 MiB by default).
)";

constexpr char kAskNotes[] =
    R"(
The answer is printed as it is generated, followed by the sentences that the question attended to,
with their place in the document, and one line of timings. With --file=FILE only QUESTION is given;
--questions replaces it. "Kept mass" is the share of the dense softmax that the kept keys hold; 1 is
exact. --report=FILE.html also writes the answer as a page for a browser, which loads nothing and
runs no script; with --file it contains the whole document, otherwise only the evidence.
)";

const std::vector<std::string> kAsk = {"ask"};
const std::vector<std::string> kUploadAsk = {"upload", "ask"};

std::vector<flags::Command> Commands() {
  return {
      {"upload", "FILE|-", "upload a UTF-8 text for reading; prints its id", kUploadNotes},
      {"ask", "DOCUMENT QUESTION", "ask a question about an uploaded document", kAskNotes},
      {"count", "FILE|-", "count the tokens of a UTF-8 text without uploading it", kCountNotes},
      {"documents", "", "list the documents stored on the server"},
      {"delete", "DOCUMENT", "delete a document"},
      {"models", "", "list the models loaded by the server"},
      {"status", "", "print what the server is doing and its limits"},
  };
}

// A choice among the values of a protobuf enum, without its UNSPECIFIED value and the prefix of the
// names: READING_WHOLE is "whole".
template <typename Enum>
flags::Value EnumTo(std::function<void(Enum)> store) {
  const google::protobuf::EnumDescriptor* const type = google::protobuf::GetEnumDescriptor<Enum>();
  const std::string prefix = absl::AsciiStrToUpper(type->name()) + "_";
  std::vector<std::string> words;
  std::vector<Enum> values;
  for (int i = 0; i < type->value_count(); ++i) {
    if (type->value(i)->number() == 0) continue;
    words.push_back(absl::AsciiStrToLower(type->value(i)->name().substr(prefix.size())));
    values.push_back(static_cast<Enum>(type->value(i)->number()));
  }
  return flags::WordTo(
      [store = std::move(store), values = std::move(values)](size_t i) { store(values[i]); },
      std::move(words));
}

// Stores the contents of a file, which must not be empty.
flags::Value Contents(std::string* contents) {
  const auto read = [contents](const std::string& path) -> std::string {
    const auto file = MappedFile::Open(path);
    if (!file.ok()) return std::string(file.status().message());
    std::string text(file->bytes());
    if (absl::StripAsciiWhitespace(text).empty()) return "the file is empty";
    *contents = std::move(text);
    return "";
  };
  return {.placeholder = "FILE", .initial = "", .set = read};
}

flags::Value TokenFile(std::string* token) {
  flags::Value value = Contents(token);
  value.set = [read = value.set, token](const std::string& path) {
    const std::string problem = read(path);
    if (problem.empty()) absl::StripAsciiWhitespace(token);
    return problem;
  };
  return value;
}

flags::Value TextTo(std::function<void(const std::string&)> store, std::string_view placeholder) {
  return {.placeholder = std::string(placeholder),
          .initial = "",
          .set = [store = std::move(store)](const std::string& text) {
            store(text);
            return std::string();
          }};
}

flags::Value Retries(RetryPolicy* retry) {
  flags::Value value =
      flags::NumberTo<int>([retry](int retries) { retry->max_attempts = 1 + retries; }, 0, 1000);
  value.initial = absl::StrCat(retry->max_attempts - 1);
  return value;
}

void StoreTtl(absl::Duration ttl, google::protobuf::Duration* out) {
  const timespec time = absl::ToTimespec(ttl);
  out->set_seconds(time.tv_sec);
  out->set_nanos(static_cast<int32_t>(time.tv_nsec));
}

void AddDocumentFlags(flags::Table& table, CliOptions& o) {
  table.Add({{"file", flags::Text(&o.file, "FILE"),
              "ask about FILE, which is uploaded if the server does not have it"},
             {"questions", flags::Text(&o.questions, "FILE|-"),
              "ask every line of FILE concurrently, instead of QUESTION"},
             {"report", flags::Text(&o.report, "FILE"),
              "also write a page with the answer and its evidence in the document"}},
            kAsk);
  table.Add({{"model", flags::Text(&o.model, "NAME"), "use this model", "the server's default"}},
            {"upload", "ask", "count", "documents"});
  table.Add({{"title", TextTo([&o](const std::string& v) { o.upload.set_title(v); }, "TEXT"),
              "title of the document", "the file's name"},
             {"ttl",
              flags::SecondsTo([&o](absl::Duration ttl) { StoreTtl(ttl, o.upload.mutable_ttl()); }),
              "delete the document after this long", "the server's default"},
             {"pinned", flags::SwitchTo([&o] { o.upload.set_pinned(true); }),
              "never evict the document to make room"},
             {"reading", EnumTo<lectern::v1::Reading>([&o](lectern::v1::Reading reading) {
                o.upload.set_reading(reading);
                o.ask.set_reading(reading);
              }),
              "how the document is read. whole: in one prompt; chunks: in independent chunks; "
              "auto: by its "
              "length"},
             {"priority", EnumTo<lectern::v1::Priority>([&o](lectern::v1::Priority priority) {
                o.upload.set_priority(priority);
                o.ask.set_priority(priority);
              }),
              "bulk: run after all interactive work"}},
            kUploadAsk);
}

void AddAttentionFlags(flags::Table& table, CliOptions& o) {
  const auto attention = [&o]() -> AttentionPolicy& {
    o.has_attention = true;
    return o.attention;
  };
  const auto set = [attention](void (AttentionPolicy::*field)(uint32_t)) {
    return [=](uint32_t value) { (attention().*field)(value); };
  };
  table.Add(
      {{"exact", flags::SwitchTo([=] { attention().set_exact(true); }),
        "dense attention over every key"},
       {"top_k", flags::NumberTo<uint32_t>(set(&AttentionPolicy::set_top_k)),
        "keys that each query attends to"},
       {"layer_top_k",
        flags::IntegersTo(
            [=](const std::vector<int64_t>& layers) {
              attention().clear_layer_top_k();
              for (const int64_t k : layers) attention().add_layer_top_k(static_cast<uint32_t>(k));
            },
            0, UINT32_MAX, "K,K,..."),
        "top-k of layers 0, 1, ...; 0: dense attention in that layer"},
       {"tail", EnumTo<AttentionPolicy::Tail>([=](AttentionPolicy::Tail tail) {
          attention().set_tail(tail);
        }),
        "where the attention of dropped keys goes. mean: to the mean of their values; none: to the "
        "kept keys"},
       {"dense_up_to", flags::NumberTo<uint32_t>(set(&AttentionPolicy::set_dense_up_to)),
        "queries with at most this many visible keys use dense attention"},
       {"page_budget", flags::NumberTo<uint32_t>(set(&AttentionPolicy::set_page_budget)),
        "pages of keys that each token reads per layer and KV head; 0: all"},
       {"ffn_top_k", flags::NumberTo<uint32_t>(set(&AttentionPolicy::set_ffn_top_k)),
        "feed-forward units kept per token; 0: all"},
       {"max_error",
        flags::RealTo([=](double e) { attention().set_max_error(static_cast<float>(e)); }, 0, 1),
        "refuse an answer whose mean dropped softmax mass exceeds this"},
       {"fall_back_to_exact", flags::SwitchTo([=] { attention().set_fall_back_to_exact(true); }),
        "answer again with dense attention when --max_error is exceeded"}},
      kUploadAsk);
}

void AddAnswerFlags(flags::Table& table, CliOptions& o) {
  AskRequest& ask = o.ask;
  table.Add(
      {{"quality", EnumTo<AskRequest::Quality>([&ask](AskRequest::Quality quality) {
          ask.set_quality(quality);
        }),
        "preset of the attention flags", "the server's default"},
       {"max_new_tokens",
        flags::NumberTo<uint32_t>([&ask](uint32_t n) { ask.set_max_new_tokens(n); }),
        "longest answer, in tokens", "the server's default"},
       {"evidence",
        flags::NumberTo<uint32_t>([&ask](uint32_t n) { ask.set_max_evidence_spans(n); }),
        "sentences of evidence to print", "the server's default"},
       {"stop",
        flags::Repeatable(TextTo([&ask](const std::string& text) { ask.add_stop(text); }, "TEXT")),
        "end the answer before this text; may be repeated"},
       {"temperature",
        flags::RealTo(
            [&ask](double t) { ask.mutable_sampling()->set_temperature(static_cast<float>(t)); }, 0,
            2, "T"),
        "sampling temperature; 0: greedy", "0"},
       {"top_p",
        flags::RealTo(
            [&ask](double p) { ask.mutable_sampling()->set_top_p(static_cast<float>(p)); }, 0, 1,
            "P"),
        "sample from the most likely tokens with this total probability", "1"},
       {"seed",
        flags::NumberTo<uint64_t>([&ask](uint64_t n) { ask.mutable_sampling()->set_seed(n); }),
        "seed of the sampler; the same seed gives the same answer", "0"},
       {"no_answer_threshold",
        flags::RealTo(
            [&ask](double score) { ask.set_no_answer_threshold(static_cast<float>(score)); }, -1e6,
            1e6, "SCORE"),
        "of a span reader: find no answer if the score of \"no answer\" exceeds the best span's by "
        "more than this",
        "the model's default"},
       {"disable_reuse", flags::SwitchTo([&ask] { ask.set_disable_reuse(true); }),
        "read the document again instead of reusing its KV cache; for measurements"},
       {"answer_id", TextTo([&ask](const std::string& id) { ask.set_answer_id(id); }, "ID"),
        "name of the answer, by which it can be resumed", "chosen by the server"}},
      kAsk);
  table.Add({{"retries", Retries(&o.retry), "retries after a replica goes away"},
             {"wait_when_full", flags::Switch(&o.retry.when_full),
              "also retry when the server is full, after the wait that it asks for"}},
            kUploadAsk);
}

void AddCallFlags(flags::Table& table, CliOptions& o) {
  table.Add({{"serving", flags::Switch(&o.serving),
              "fail unless the server is serving; for health probes"}},
            {"status"});
  table.Add({
      {"tenant", flags::Text(&o.tenant, "NAME"), "tenant of the call, for fairness and quotas"},
      {"request_id", flags::Text(&o.request_id, "ID"), "the call's id in the server's log"},
      {"server", flags::Text(&o.server, "HOST:PORT"),
       "the server; also several addresses separated by commas, or any gRPC target", "",
       "LECTERN_SERVER"},
      {"tls_ca", Contents(&o.connection.authorities),
       "use TLS; the server's certificate must be issued by one of the authorities in this PEM "
       "file",
       "", "LECTERN_TLS_CA"},
      {"tls_cert", Contents(&o.connection.certificate),
       "PEM file with the certificate to present to servers that require one", "",
       "LECTERN_TLS_CERT"},
      {"tls_key", Contents(&o.connection.key), "PEM file with the private key of --tls_cert", "",
       "LECTERN_TLS_KEY"},
      {"tls_server_name", flags::Text(&o.connection.server_name, "NAME"),
       "name in the server's certificate, if it differs from --server", "",
       "LECTERN_TLS_SERVER_NAME"},
      {"token_file", TokenFile(&o.token), "file with the bearer token of the calls",
       "$LECTERN_TOKEN holds it"},
      {"insecure_token", flags::Switch(&o.insecure_token),
       "send the token in plain text to other machines"},
      {"timeout", flags::Seconds(&o.timeout), "give up after this long",
       "300s for a question, 600s for an upload"},
      {"json", flags::Switch(&o.json),
       "print one JSON object per line instead of text (protobuf's JSON mapping)"},
  });
}

}  // namespace

flags::Table CliFlags(CliOptions& options) {
  flags::Table table({.name = "lectern",
                      .introduction = kIntroduction,
                      .closing = kClosing,
                      .commands = Commands()});
  AddDocumentFlags(table, options);
  AddAttentionFlags(table, options);
  AddAnswerFlags(table, options);
  AddCallFlags(table, options);
  return table;
}

}  // namespace lectern
