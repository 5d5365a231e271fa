// Between the proto messages and the engine's types. No logic: what a message may say is checked by
// the engine; here only what proto alone can express wrongly (unknown enum values, a missing part).
#pragma once

#include <lectern/v1/ask.pb.h>
#include <lectern/v1/document.pb.h>
#include <lectern/v1/server.pb.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/engine/api.h"
#include "server/model/model.h"

namespace lectern {

// INVALID_ARGUMENT with all violations.
absl::StatusOr<UploadOptions> FromProto(const v1::UploadMetadata& metadata);
absl::StatusOr<AskOptions> FromProto(const v1::AskRequest& request,
                                     const AttentionPolicy& default_policy);

google::protobuf::Duration ToProto(absl::Duration duration);
google::protobuf::Timestamp ToProto(absl::Time time);
v1::AttentionPolicy ToProto(const AttentionPolicy& policy);
v1::Document ToProto(const DocumentInfo& document);
v1::Answer ToProto(const Answer& answer);
v1::ModelInfo ToProto(const ModelInfo& model);
v1::Limits ToProto(const EngineLimits& limits);

v1::UploadProgress::Stage ToProto(UploadStage stage);
v1::Progress::Stage ToProto(AskStage stage);

}  // namespace lectern
