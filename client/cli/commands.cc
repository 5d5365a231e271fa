#include "client/cli/commands.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "base/error_details.h"
#include "base/files/file_system.h"
#include "base/status_macros.h"
#include "client/cli/printer.h"
#include "client/cli/progress.h"
#include "client/cli/report.h"
#include "client/cli/text.h"
#include "protocol/reasons.h"

namespace lectern {
namespace {

using lectern::v1::ServerStatus;

constexpr absl::Duration kConnectTimeout = absl::Seconds(10);
constexpr absl::Duration kPoll = absl::Milliseconds(200);

std::string TitleOf(const std::string& path) {
  return path == "-" ? "" : path.substr(path.find_last_of('/') + 1);
}

bool NamesSeveral(const std::string& server) {
  return server.find(',') != std::string::npos || server.find("://") != std::string::npos;
}

absl::Status WithQuestion(const absl::Status& status, const std::string& question) {
  ErrorDetails details = GetErrorDetails(status);
  details.metadata["question"] = question;
  return MakeError(status.code(), {status.message().data(), status.message().size()}, details);
}

class Runner {
 public:
  Runner(const CliOptions& options, std::FILE* out, std::FILE* err, bool err_is_terminal,
         Canceller& canceller)
      : options_(options),
        out_(out),
        err_(err),
        canceller_(canceller),
        deadline_(absl::Now() + options.timeout),
        client_(options.server, options.connection),
        progress_(err_is_terminal && !options.json ? err : nullptr) {}

  int Run();

 private:
  // Report unusable files and failed calls, which have different exit statuses.
  int UsageError(const absl::Status& status);
  int Report(const absl::Status& status);
  CallOptions Call();

  lectern::v1::UploadMetadata Metadata(const std::string& path) const;
  absl::Status Upload(std::string_view text);
  // The id of the stored document with this text, or "" if it is missing or has to be changed.
  absl::StatusOr<std::string> Find(std::string_view text);
  absl::Status AskAbout(std::string_view text);
  absl::Status Ask(const std::string& document, const CallOptions& call);
  absl::Status AskMany(const lectern::v1::AskRequest& request, const CallOptions& call);
  // Writes --report. `text` is the document, if its text is known.
  absl::Status WriteReport(std::optional<std::string_view> text) const;
  absl::Status Documents();
  absl::Status Delete();
  absl::Status Count(std::string_view text);
  absl::Status Models();
  absl::Status Status();
  // Waits while the server is loading; fails if it is draining.
  absl::Status WaitUntilServing();

  void ShowUpload(const lectern::v1::UploadDocumentResponse& event);
  void ShowAnswer(const lectern::v1::AskResponse& event);
  void Print(const std::string& text);

  const CliOptions& options_;
  std::FILE* const out_;
  std::FILE* const err_;
  Canceller& canceller_;
  const absl::Time deadline_;
  Text questions_;
  lectern::v1::Answer answer_;  // set by Ask()
  Client client_;
  ProgressLine progress_;
};

void Runner::Print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), out_);
  std::fflush(out_);
}

int Runner::UsageError(const absl::Status& status) {
  std::fprintf(err_, "lectern: %s\n", std::string(status.message()).c_str());
  return kExitUsage;
}

int Runner::Report(const absl::Status& status) {
  progress_.Clear();
  if (status.ok()) return kExitOk;
  if (canceller_.cancelled()) {
    std::fprintf(err_, "lectern: interrupted\n");
    return kExitInterrupted;
  }
  std::fputs(ErrorText(status).c_str(), err_);
  const bool from_transport = absl::IsUnavailable(status) && GetErrorDetails(status).reason.empty();
  return from_transport ? kExitNoConnection : kExitServerError;
}

void Runner::ShowUpload(const lectern::v1::UploadDocumentResponse& event) {
  using lectern::v1::UploadProgress;
  if (options_.json) return Print(JsonLine(event));
  if (!event.has_progress()) return;
  const UploadProgress& progress = event.progress();
  const uint64_t done = progress.done();
  const uint64_t total = progress.total();
  switch (progress.stage()) {
    case UploadProgress::STAGE_RECEIVING:
      return progress_.Show("sending", done, total, "bytes");
    case UploadProgress::STAGE_QUEUED:
      return progress_.Show("waiting", done, 0, "jobs ahead");
    case UploadProgress::STAGE_TOKENIZING:
      return progress_.Show("tokenizing", done, total, "bytes");
    case UploadProgress::STAGE_PREFILL:
      return progress_.Show("reading", done, total, "tokens");
    default:
      return;
  }
}

void Runner::ShowAnswer(const lectern::v1::AskResponse& event) {
  using lectern::v1::Progress;
  if (options_.json) return Print(JsonLine(event));
  if (event.has_queued()) {
    progress_.Show("waiting", event.queued().position(), 0, "jobs ahead");
  } else if (event.has_progress()) {
    const Progress& progress = event.progress();
    const bool document = progress.stage() == Progress::STAGE_PREFILL_DOCUMENT;
    const bool tokenizing = progress.stage() == Progress::STAGE_TOKENIZING;
    const bool search = progress.stage() == Progress::STAGE_SEARCH;
    progress_.Show(document     ? "reading"
                   : tokenizing ? "tokenizing"
                   : search     ? "searching"
                                : "reading the question",
                   progress.done(), progress.total(),
                   tokenizing ? "bytes"
                   : search   ? "chunks"
                              : "tokens");
  } else if (event.has_delta()) {
    progress_.Clear();
    Print(Printable(event.delta().text()));
  } else if (event.has_answer()) {
    progress_.Clear();
    Print(absl::StrCat("\n", AnswerFooter(event.answer())));
  }
}

CallOptions Runner::Call() {
  CallOptions call;
  call.timeout = deadline_ - absl::Now();
  call.canceller = &canceller_;
  call.tenant = options_.tenant;
  call.token = options_.token;
  call.request_id = options_.request_id;
  call.retry = options_.retry;
  call.on_retry = [this](const RetryNotice& notice) {
    progress_.Clear();
    if (options_.json) return;
    const std::string what =
        notice.uploads ? "the server does not have the document, uploading it"
                       : absl::StrCat(absl::StatusCodeToString(notice.cause.code()),
                                      ", trying again in ", absl::FormatDuration(notice.wait));
    std::fprintf(err_, "%s\n", what.c_str());
  };
  return call;
}

lectern::v1::UploadMetadata Runner::Metadata(const std::string& path) const {
  lectern::v1::UploadMetadata metadata = options_.upload;
  metadata.set_model(options_.model);
  if (metadata.title().empty()) metadata.set_title(TitleOf(path));
  if (options_.has_attention) *metadata.mutable_attention() = options_.attention;
  return metadata;
}

absl::Status Runner::Upload(std::string_view text) {
  LECTERN_ASSIGN_OR_RETURN(const auto document,
                           client_.Upload(text, Metadata(options_.words[0]), Call(),
                                          [this](const auto& event) { ShowUpload(event); }));
  progress_.Clear();
  if (!options_.json) Print(document.id() + "\n");
  return absl::OkStatus();
}

absl::StatusOr<std::string> Runner::Find(std::string_view text) {
  const lectern::v1::UploadMetadata& wanted = options_.upload;
  if (wanted.has_ttl() || wanted.pinned() || !wanted.title().empty()) return "";
  const std::string id = client_.DocumentId(text, options_.model, Call());
  if (id.empty()) return "";
  const auto document = client_.GetDocument(id, Call());
  if (absl::IsNotFound(document.status())) return "";
  LECTERN_RETURN_IF_ERROR(document.status());
  const bool as_wanted = wanted.reading() == lectern::v1::READING_UNSPECIFIED ||
                         wanted.reading() == lectern::v1::READING_AUTO ||
                         wanted.reading() == document->reading();
  return as_wanted ? id : "";
}

absl::Status Runner::AskAbout(std::string_view text) {
  LECTERN_ASSIGN_OR_RETURN(const std::string id, Find(text));
  const DocumentSource source{
      .text = [text]() -> absl::StatusOr<std::string> { return std::string(text); },
      .metadata = Metadata(options_.file),
      .on_event = [this](const auto& event) { ShowUpload(event); }};
  CallOptions call = Call();
  call.document = &source;
  return Ask(id, call);
}

absl::Status Runner::Ask(const std::string& document, const CallOptions& call) {
  lectern::v1::AskRequest request = options_.ask;
  request.set_document_id(document);
  // The document's own model answers; the server refuses a different --model.
  request.set_model(options_.model);
  if (options_.has_attention) *request.mutable_attention() = options_.attention;
  if (!options_.questions.empty()) return AskMany(request, call);
  request.set_question(options_.words.back());
  LECTERN_ASSIGN_OR_RETURN(
      answer_, client_.Ask(request, call, [this](const auto& event) { ShowAnswer(event); }));
  return absl::OkStatus();
}

absl::Status Runner::WriteReport(std::optional<std::string_view> text) const {
  const std::string page = ReportPage({.question = options_.words.back(),
                                       .answer = answer_,
                                       .title = text ? Metadata(options_.file).title() : "",
                                       .text = text,
                                       .time = absl::Now()});
  const std::span<const std::byte> pieces[] = {BytesOf(page)};
  return WriteFileAtomically(FileSystem::Real(), options_.report, pieces);
}

absl::Status Runner::AskMany(const lectern::v1::AskRequest& request, const CallOptions& call) {
  std::vector<lectern::v1::AskRequest> requests;
  const std::string lines(questions_.bytes());
  for (const absl::string_view line : absl::StrSplit(lines, '\n', absl::SkipWhitespace())) {
    requests.push_back(request);
    requests.back().set_question(std::string(absl::StripAsciiWhitespace(line)));
  }
  size_t answered = 0;
  const auto show = [&](size_t index, const lectern::v1::AskResponse& event) {
    answered += event.has_answer() ? 1 : 0;
    progress_.Show("answering", answered, requests.size(), "questions");
    if (!options_.json) return;
    lectern::v1::AskManyResponse tagged;
    tagged.set_tag(absl::StrCat(index + 1));
    *tagged.mutable_response() = event;
    Print(JsonLine(tagged));
  };
  const auto answers = client_.AskMany(requests, call, show);
  progress_.Clear();
  absl::Status last_failure = absl::OkStatus();
  for (size_t i = 0; i < answers.size(); ++i) {
    const absl::Status& status = answers[i].status();
    if (!status.ok()) {
      if (!last_failure.ok()) std::fputs(ErrorText(last_failure).c_str(), err_);
      last_failure = WithQuestion(status, requests[i].question());
    } else if (!options_.json) {
      Print(absl::StrCat(Printable(requests[i].question()), "\n", Printable(answers[i]->text()),
                         "\n", AnswerFooter(*answers[i]), "\n"));
    }
  }
  return last_failure;  // reported by the caller
}

absl::Status Runner::Documents() {
  LECTERN_ASSIGN_OR_RETURN(const auto documents, client_.ListDocuments(options_.model, Call()));
  for (const auto& document : documents) {
    Print(options_.json ? JsonLine(document) : DocumentLine(document));
  }
  if (documents.empty() && !options_.json) std::fprintf(err_, "no documents\n");
  return absl::OkStatus();
}

absl::Status Runner::Delete() {
  LECTERN_ASSIGN_OR_RETURN(const auto deleted, client_.DeleteDocument(options_.words[0], Call()));
  Print(options_.json
            ? JsonLine(deleted)
            : absl::StrCat("deleted, ", WithCommas(deleted.freed_bytes()), " bytes freed\n"));
  return absl::OkStatus();
}

absl::Status Runner::Count(std::string_view text) {
  lectern::v1::CountTokensRequest request;
  request.set_text(std::string(text));
  request.set_model(options_.model);
  LECTERN_ASSIGN_OR_RETURN(const auto count, client_.CountTokens(request, Call()));
  Print(options_.json ? JsonLine(count) : CountText(count));
  return absl::OkStatus();
}

absl::Status Runner::Models() {
  LECTERN_ASSIGN_OR_RETURN(const auto models, client_.ListModels(Call()));
  for (const auto& model : models.models()) {
    Print(options_.json ? JsonLine(model) : ModelText(model));
  }
  return absl::OkStatus();
}

absl::Status Runner::Status() {
  LECTERN_ASSIGN_OR_RETURN(const auto status, client_.GetServerStatus(Call()));
  Print(options_.json ? JsonLine(status) : StatusText(status));
  if (options_.serving && status.state() != ServerStatus::STATE_SERVING) {
    return MakeError(absl::StatusCode::kFailedPrecondition, "the server is not serving",
                     {.reason = StateName(status.state())});
  }
  return absl::OkStatus();
}

absl::Status Runner::WaitUntilServing() {
  for (bool announced = false;; absl::SleepFor(kPoll)) {
    LECTERN_ASSIGN_OR_RETURN(const ServerStatus status, client_.GetServerStatus(Call()));
    if (status.state() == ServerStatus::STATE_SERVING) return absl::OkStatus();
    if (status.state() == ServerStatus::STATE_DRAINING) {
      // This is the status of one replica among several; calls can go to another one.
      if (NamesSeveral(options_.server) && client_.WaitUntilServing(kConnectTimeout)) {
        return absl::OkStatus();
      }
      return MakeError(absl::StatusCode::kUnavailable, "the server is shutting down",
                       {.reason = kReasonDraining});
    }
    if (!announced)
      std::fprintf(err_, "waiting for the server: %s\n", status.explanation().c_str());
    announced = true;
  }
}

int Runner::Run() {
  const bool names_text = options_.command == "upload" || options_.command == "count";
  const bool sends_text = names_text || !options_.file.empty();
  const std::string& path = names_text ? options_.words[0] : options_.file;
  Text text;
  if (sends_text) {
    auto read = Text::Read(path);
    if (!read.ok()) return UsageError(read.status());
    text = *std::move(read);
  }
  if (!options_.questions.empty()) {
    auto read = Text::Read(options_.questions);
    if (!read.ok()) return UsageError(read.status());
    questions_ = *std::move(read);
  }
  if (!options_.report.empty()) {
    // Checked before asking the question, which may take long.
    const std::string folder = std::filesystem::absolute(options_.report).parent_path();
    if (access(folder.c_str(), W_OK) != 0) {
      return UsageError(absl::InvalidArgumentError(absl::StrCat("cannot write into ", folder)));
    }
  }
  const absl::Status connected = client_.Connect(std::min(kConnectTimeout, options_.timeout));
  if (!connected.ok()) return Report(connected);
  if (options_.command == "status") return Report(Status());
  if (const absl::Status status = WaitUntilServing(); !status.ok()) return Report(status);
  if (options_.command == "upload") return Report(Upload(text.bytes()));
  if (options_.command == "ask") {
    const int exit = Report(sends_text ? AskAbout(text.bytes()) : Ask(options_.words[0], Call()));
    if (exit != kExitOk || options_.report.empty()) return exit;
    const absl::Status written =
        WriteReport(sends_text ? std::optional(text.bytes()) : std::nullopt);
    return written.ok() ? kExitOk : UsageError(written);
  }
  if (options_.command == "count") return Report(Count(text.bytes()));
  if (options_.command == "documents") return Report(Documents());
  if (options_.command == "delete") return Report(Delete());
  return Report(Models());
}

}  // namespace

int RunCommand(const CliOptions& options, std::FILE* out, std::FILE* err, bool err_is_terminal,
               Canceller& canceller) {
  return Runner(options, out, err, err_is_terminal, canceller).Run();
}

}  // namespace lectern
