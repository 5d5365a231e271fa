// Which id a text will have on the server, known before it is sent.
//
// A proxy in front of several replicas sends every call about a document to the same one, by the
// document's id in the call's metadata (deploy/routing). An upload has to name it, too.
#pragma once

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/call_options.h"
#include "client/cpp/channels.h"

namespace lectern {

// Thread-safe.
class DocumentIds {
 public:
  // `channels` outlives this object.
  explicit DocumentIds(Channels& channels) : channels_(channels) {}

  // The id under `model` (empty: the server's default one) of the text with this digest; "" if the
  // server does not tell its models. Asks for their fingerprints when they are not known.
  std::string Of(const std::string& text_sha256, const std::string& model,
                 const CallOptions& options, absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  // A document got the id `actual`; if that was not the one `expected`, models have been replaced.
  void Check(const std::string& expected, const std::string& actual) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Fingerprints = std::map<std::string, std::string>;  // by model; "" is the default one

  Channels& channels_;
  absl::Mutex mutex_;
  Fingerprints fingerprints_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
