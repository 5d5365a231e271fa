// How `lectern` shows what the server sent.
#pragma once

#include <lectern/v1/document_qa.pb.h>

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace lectern {

// `text` without control characters but line feeds and tabs, so that no document and no answer can
// send commands to a terminal.
std::string Printable(std::string_view text);

// One line of protobuf's JSON mapping, with its line feed.
std::string JsonLine(const google::protobuf::Message& message);

std::string ShortTime(const google::protobuf::Duration& duration);  // "34 ms", "1.20 s"
// "exact", or k and what becomes of the tail.
std::string PolicyText(const lectern::v1::AttentionPolicy& policy);

// What stands below a streamed answer: evidence, one line of timings.
std::string AnswerFooter(const lectern::v1::Answer& answer);

std::string DocumentLine(const lectern::v1::Document& document);
std::string ModelText(const lectern::v1::ModelInfo& model);
std::string StatusText(const lectern::v1::ServerStatus& status);
// "SERVING", "LOADING", ...
std::string StateName(lectern::v1::ServerStatus::State state);

// Code, message, reason, violated fields and retry hint of a failed call.
std::string ErrorText(const absl::Status& status);

}  // namespace lectern
