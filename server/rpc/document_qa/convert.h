// Converts between the proto messages and the engine's types. No logic: the engine checks requests
// and resolves them; only what the messages alone can get wrong is checked here (unknown enum
// values, a missing part, the length of an answer's id, which the engine does not know).
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
absl::StatusOr<AskOptions> FromProto(const v1::AskRequest& request);
CountOptions FromProto(const v1::CountTokensRequest& request);

google::protobuf::Duration ToProto(absl::Duration duration);
google::protobuf::Timestamp ToProto(absl::Time time);
v1::AttentionPolicy ToProto(const AttentionPolicy& policy);
v1::Document ToProto(const DocumentInfo& document);
v1::Answer ToProto(const Answer& answer);
v1::CountTokensResponse ToProto(const TokenCount& count);
v1::ModelInfo ToProto(const ModelInfo& model);
v1::Limits ToProto(const EngineLimits& limits);

v1::UploadProgress::Stage ToProto(UploadStage stage);
v1::Progress::Stage ToProto(AskStage stage);

}  // namespace lectern
