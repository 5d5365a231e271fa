// Formats what the server sent for a terminal or as JSON.
#pragma once

#include <lectern/v1/document_qa.pb.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lectern {

// Removes control characters other than line feeds and tabs, so that neither documents nor answers
// can send commands to a terminal.
std::string Printable(std::string_view text);

// One line in protobuf's JSON mapping, including the line feed.
std::string JsonLine(const google::protobuf::Message& message);

std::string ShortTime(const google::protobuf::Duration& duration);  // "34 ms", "1.20 s"
// "exact", or k and the tail.
std::string PolicyText(const lectern::v1::AttentionPolicy& policy);

// Whether a span reader found no answer, and by how much: "the score of "no answer" is 1.25 above
// that of the best span".
bool IsNoAnswer(const lectern::v1::Answer& answer);
std::string NullScoreText(const lectern::v1::Answer& answer);

// The lines printed after a streamed answer: evidence and one line of timings.
std::string AnswerFooter(const lectern::v1::Answer& answer);

std::string DocumentLine(const lectern::v1::Document& document);
// "1,234 tokens of MODEL: read whole (whole up to 2,000 tokens; context length 8,192)" and a
// line feed.
std::string CountText(const lectern::v1::CountTokensResponse& count);
std::string ModelText(const lectern::v1::ModelInfo& model);
std::string StatusText(const lectern::v1::ServerStatus& status);
// "SERVING", "LOADING", ...
std::string StateName(lectern::v1::ServerStatus::State state);

// The code, message, reason, violated fields and retry hint of a failed call.
std::string ErrorText(const absl::Status& status);

}  // namespace lectern
