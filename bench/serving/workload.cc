#include "bench/serving/workload.h"

#include <unistd.h>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace lectern::bench {
namespace {

constexpr int kTokensPerSentence = 20;

const char* const kPlaces[] = {"the north gate",   "pump three", "the control desk",
                               "the upper basin",  "the weir",   "the filter house",
                               "the spare turbine"};
const char* const kEvents[] = {"the water level was normal", "an alarm was raised and answered",
                               "the valve was opened by hand", "the shift was handed over",
                               "the pressure fell for a minute"};
const char* const kQuestions[] = {"What happened at the weir?",
                                  "Where was an alarm raised, and what was done about it?",
                                  "Summarise what the log says about the control desk.",
                                  "Which valve was opened by hand, and where?",
                                  "Describe what the log says about the upper basin."};

template <size_t N>
const char* Pick(const char* const (&words)[N], std::mt19937_64& random) {
  return words[random() % N];
}

}  // namespace

std::string DocumentText(uint64_t number, int tokens) {
  std::mt19937_64 random(number);
  std::string text = absl::StrCat("Log number ", number, " of the pumping station. ");
  for (int i = 0; i < tokens / kTokensPerSentence; ++i) {
    absl::StrAppend(&text, "Entry ", random() % 1000, " of the log says that at ",
                    Pick(kPlaces, random), " ", Pick(kEvents, random), " on that day. ");
  }
  return text;
}

Workload::Workload(const LoadOptions& options)
    : options_(options),
      random_(options.seed),
      // The server keeps documents, so a text of an earlier run would cost it nothing.
      uploads_((static_cast<uint64_t>(absl::ToUnixMicros(absl::Now())) << 8) ^
               static_cast<uint64_t>(getpid())) {}

Kind Workload::NextKind() {
  double at = std::uniform_real_distribution<double>(0, 1)(random_);
  if ((at -= options_.uploads) < 0) return Kind::kUpload;
  if ((at -= options_.cancels) < 0) return Kind::kCancel;
  if ((at -= options_.slow_readers) < 0) return Kind::kSlow;
  if ((at -= options_.crashes) < 0) return Kind::kCrash;
  return Kind::kAsk;
}

double Workload::NextGap() { return std::exponential_distribution<double>(options_.rate)(random_); }

std::string Workload::NextUpload() { return DocumentText(++uploads_, options_.upload_tokens); }

uint64_t Workload::Below(uint64_t bound) { return random_() % bound; }

lectern::v1::AskRequest Workload::NextAsk(const std::vector<std::string>& documents) {
  lectern::v1::AskRequest request;
  request.set_document_id(documents[Below(documents.size())]);
  request.set_question(Pick(kQuestions, random_));
  request.set_max_new_tokens(static_cast<uint32_t>(options_.max_new_tokens));
  if (options_.temperature > 0) {
    request.mutable_sampling()->set_temperature(static_cast<float>(options_.temperature));
    request.mutable_sampling()->set_seed(Below(1u << 30));
  }
  return request;
}

}  // namespace lectern::bench
