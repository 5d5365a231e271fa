// Computes the id that a text will have on the server before it is sent.
//
// A proxy in front of several replicas sends every call about a document to the same one, by the
// document's id in the call's metadata (deploy/routing). An upload must name it, too.
#pragma once

#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "client/cpp/channels.h"
#include "lectern/call_options.h"

namespace lectern {

// Thread-safe.
class DocumentIds {
 public:
  // `channels` must outlive this object.
  explicit DocumentIds(Channels& channels) : channels_(channels) {}

  // Returns the id of the text with this digest as a document of `model` (empty: the server's
  // default model); "" if the server does not list its models. Calls ListModels if the models'
  // fingerprints are not known yet.
  std::string Of(const std::string& text_sha256, const std::string& model,
                 const CallOptions& options, absl::Time deadline) ABSL_LOCKS_EXCLUDED(mutex_);

  // Compares the id of an uploaded document with the expected one. If they differ, the server's
  // models have been replaced, and their fingerprints are forgotten.
  void Check(const std::string& expected, const std::string& actual) ABSL_LOCKS_EXCLUDED(mutex_);

 private:
  using Fingerprints = std::map<std::string, std::string>;  // by model; "" is the default model

  Channels& channels_;
  absl::Mutex mutex_;
  Fingerprints fingerprints_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lectern
