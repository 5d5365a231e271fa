// Log fields of one question. The question and the answer are logged only with --log_prompts.
#pragma once

#include <lectern/v1/ask.pb.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "base/log.h"
#include "server/engine/api.h"

namespace lectern {

// Returns the first 8 hexadecimal digits of a document's id, or "" if `id` is not one.
std::string ShortDocumentId(const std::string& id);

// "stop", "length" or "stop_string".
const char* Name(FinishReason reason);

// Not thread-safe.
class QuestionLog {
 public:
  QuestionLog(const v1::AskRequest& request, bool log_prompts);

  void OnText(uint32_t tokens) { tokens_ += tokens; }

  std::vector<LogField> Answered(const Answer& answer) const;
  std::vector<LogField> Failed(const absl::Status& status) const;

 private:
  std::string model_;
  std::string document_id_;
  std::string question_;  // empty unless it is to be logged
  bool log_prompts_;
  uint64_t tokens_ = 0;
};

}  // namespace lectern
