#include "server/rpc/document_qa/convert.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/engine/request_checks.h"

namespace lectern {
namespace {

using google::protobuf::FieldDescriptor;
using Violations = std::vector<FieldViolation>;

ReadingMode ReadingFrom(v1::Reading reading, const char* field, Violations& violations) {
  switch (reading) {
    case v1::READING_UNSPECIFIED:
    case v1::READING_AUTO:
      return ReadingMode::kAuto;
    case v1::READING_WHOLE:
      return ReadingMode::kWhole;
    case v1::READING_CHUNKS:
      return ReadingMode::kChunks;
    default:
      violations.push_back({field, "is not a value of Reading"});
      return ReadingMode::kAuto;
  }
}

Priority PriorityFrom(v1::Priority priority, Priority unspecified, const char* field,
                      Violations& violations) {
  switch (priority) {
    case v1::PRIORITY_UNSPECIFIED:
      return unspecified;
    case v1::PRIORITY_INTERACTIVE:
      return Priority::kInteractive;
    case v1::PRIORITY_BULK:
      return Priority::kBulk;
    default:
      violations.push_back({field, "is not a value of Priority"});
      return unspecified;
  }
}

// Returns the values of `field` in `message`, none if it is unset. Enumerators count from 0 without
// the proto's UNSPECIFIED.
std::vector<int64_t> ValuesOf(const google::protobuf::Message& message,
                              const FieldDescriptor& field) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  if (field.is_repeated()) {
    std::vector<int64_t> values;
    for (int i = 0; i < reflection.FieldSize(message, &field); ++i) {
      values.push_back(reflection.GetRepeatedUInt32(message, &field, i));
    }
    return values;
  }
  if (field.enum_type() != nullptr) {
    const int value = reflection.GetEnumValue(message, &field);
    return value == 0 ? std::vector<int64_t>{} : std::vector<int64_t>{value - 1};
  }
  if (!reflection.HasField(message, &field)) return {};
  return {reflection.GetUInt32(message, &field)};
}

void SetValues(std::span<const int64_t> values, const FieldDescriptor& field,
               google::protobuf::Message& message) {
  const google::protobuf::Reflection& reflection = *message.GetReflection();
  for (const int64_t value : values) {
    if (field.is_repeated()) {
      reflection.AddUInt32(&message, &field, static_cast<uint32_t>(value));
    } else if (field.enum_type() != nullptr) {
      reflection.SetEnumValue(&message, &field, static_cast<int>(value) + 1);
    } else {
      reflection.SetUInt32(&message, &field, static_cast<uint32_t>(value));
    }
  }
}

// Calls `visit` with every row of the policy table that requests set, and its field in the proto.
template <typename Visit>
void ForEachPolicyField(const Visit& visit) {
  for (const PolicyField& row : kPolicyFields) {
    if (row.set_by != PolicyField::SetBy::kRequests) continue;
    visit(row, *v1::AttentionPolicy::descriptor()->FindFieldByName(std::string(row.name)));
  }
}

AttentionChoice AttentionFrom(const v1::AttentionPolicy& policy, Violations& violations) {
  AttentionChoice choice;
  choice.exact = policy.exact();
  if (policy.has_max_error()) choice.max_error = policy.max_error();
  choice.fall_back_to_exact = policy.fall_back_to_exact();
  ForEachPolicyField([&](const PolicyField& row, const FieldDescriptor& field) {
    const std::vector<int64_t> values = ValuesOf(policy, field);
    if (values.empty()) return;
    if (row.CanHold(values)) return choice.overrides.Set(row, values);
    violations.push_back({absl::StrCat("attention.", field.name()),
                          absl::StrCat("is not a value of ", field.enum_type()->name())});
  });
  return choice;
}

Quality QualityFrom(v1::AskRequest::Quality quality, Violations& violations) {
  switch (quality) {
    case v1::AskRequest::QUALITY_UNSPECIFIED:
      return Quality::kDefault;
    case v1::AskRequest::QUALITY_HIGH:
      return Quality::kHigh;
    case v1::AskRequest::QUALITY_EXACT:
      return Quality::kExact;
    default:
      violations.push_back({"quality", "is not a value of Quality"});
      return Quality::kDefault;
  }
}

v1::Reading ToProto(ReadingMode reading) {
  switch (reading) {
    case ReadingMode::kAuto:
      return v1::READING_AUTO;
    case ReadingMode::kWhole:
      return v1::READING_WHOLE;
    case ReadingMode::kChunks:
      return v1::READING_CHUNKS;
  }
  return v1::READING_UNSPECIFIED;
}

v1::Answer::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop:
      return v1::Answer::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::Answer::FINISH_REASON_LENGTH;
    case FinishReason::kStopString:
      return v1::Answer::FINISH_REASON_STOP_STRING;
    case FinishReason::kNoAnswer:
      return v1::Answer::FINISH_REASON_NO_ANSWER;
  }
  return v1::Answer::FINISH_REASON_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<UploadOptions> FromProto(const v1::UploadMetadata& metadata) {
  Violations violations;
  UploadOptions options{.title = metadata.title(),
                        .model = metadata.model(),
                        .expected_bytes = metadata.expected_bytes(),
                        .expected_sha256 = metadata.expected_sha256(),
                        .pinned = metadata.pinned()};
  if (metadata.has_ttl()) {
    options.ttl =
        absl::Seconds(metadata.ttl().seconds()) + absl::Nanoseconds(metadata.ttl().nanos());
  }
  options.reading = ReadingFrom(metadata.reading(), "metadata.reading", violations);
  options.attention = AttentionFrom(metadata.attention(), violations);
  options.priority =
      PriorityFrom(metadata.priority(), Priority::kBulk, "metadata.priority", violations);
  if (!violations.empty()) return ViolationsError(violations);
  return options;
}

absl::StatusOr<AskOptions> FromProto(const v1::AskRequest& request) {
  Violations violations;
  AskOptions options{.question = request.question(), .model = request.model()};
  if (request.source_case() == v1::AskRequest::kDocumentId) {
    options.document_id = request.document_id();
    if (options.document_id.empty()) violations.push_back({"document_id", "must not be empty"});
  } else if (request.source_case() == v1::AskRequest::kInlineText) {
    options.inline_text = request.inline_text();
  } else {
    violations.push_back({"source", "must be either document_id or inline_text"});
  }
  options.attention = AttentionFrom(request.attention(), violations);
  options.attention.quality = QualityFrom(request.quality(), violations);
  options.reading = ReadingFrom(request.reading(), "reading", violations);
  options.priority =
      PriorityFrom(request.priority(), Priority::kInteractive, "priority", violations);
  options.sampling.temperature = request.sampling().temperature();
  options.sampling.top_p = request.sampling().top_p() == 0 ? 1 : request.sampling().top_p();
  options.sampling.seed = request.sampling().seed();
  options.max_new_tokens = request.max_new_tokens();
  options.stop.assign(request.stop().begin(), request.stop().end());
  if (request.has_max_evidence_spans()) options.max_evidence_spans = request.max_evidence_spans();
  options.disable_reuse = request.disable_reuse();
  if (request.has_no_answer_threshold()) {
    options.no_answer_threshold = request.no_answer_threshold();
  }
  if (request.answer_id().size() > 64) {
    violations.push_back({"answer_id", "must be at most 64 bytes"});
  }
  if (!violations.empty()) return ViolationsError(violations);
  return options;
}

CountOptions FromProto(const v1::CountTokensRequest& request) {
  CountOptions options;
  options.document_id = request.document_id();
  if (request.has_text()) options.text = request.text();
  options.model = request.model();
  return options;
}

google::protobuf::Duration ToProto(absl::Duration duration) {
  google::protobuf::Duration proto;
  const timespec time = absl::ToTimespec(duration);
  proto.set_seconds(time.tv_sec);
  proto.set_nanos(static_cast<int32_t>(time.tv_nsec));
  return proto;
}

google::protobuf::Timestamp ToProto(absl::Time time) {
  google::protobuf::Timestamp proto;
  const timespec parts = absl::ToTimespec(time);
  proto.set_seconds(parts.tv_sec);
  proto.set_nanos(static_cast<int32_t>(parts.tv_nsec));
  return proto;
}

v1::AttentionPolicy ToProto(const AttentionPolicy& policy) {
  v1::AttentionPolicy proto;
  if (policy == AttentionPolicy::Exact()) {
    proto.set_exact(true);
    return proto;
  }
  ForEachPolicyField([&](const PolicyField& row, const FieldDescriptor& field) {
    const std::vector<int64_t> values = row.Values(policy);
    // A number that requests may switch off with 0 is left out while it is off.
    const bool can_be_off =
        !row.is_list() && row.kind != PolicyField::Kind::kEnumeration && row.least == 0;
    if (can_be_off && values.front() == 0) return;
    SetValues(values, field, proto);
  });
  return proto;
}

v1::Document ToProto(const DocumentInfo& document) {
  v1::Document proto;
  proto.set_id(document.id);
  proto.set_title(document.title);
  proto.set_model(document.model);
  proto.set_bytes(document.bytes);
  proto.set_tokens(document.tokens);
  proto.set_chunks(document.chunks);
  proto.set_device_bytes(document.device_bytes);
  proto.set_sha256(document.sha256);
  *proto.mutable_create_time() = ToProto(document.create_time);
  *proto.mutable_last_use_time() = ToProto(document.last_use_time);
  if (document.expire_time != absl::InfiniteFuture()) {
    *proto.mutable_expire_time() = ToProto(document.expire_time);
  }
  proto.set_pinned(document.pinned);
  proto.set_reading(ToProto(document.reading));
  for (const AttentionPolicy& policy : document.read_under)
    *proto.add_read_under() = ToProto(policy);
  return proto;
}

v1::CountTokensResponse ToProto(const TokenCount& count) {
  v1::CountTokensResponse proto;
  proto.set_model(count.model);
  proto.set_tokens(count.tokens);
  proto.set_reading(ToProto(count.reading));
  proto.set_chunks(count.chunks);
  proto.set_chunk_tokens(count.chunk_tokens);
  proto.set_context_length(count.context_length);
  return proto;
}

v1::Answer ToProto(const Answer& answer) {
  v1::Answer proto;
  proto.set_finish_reason(ToProto(answer.finish_reason));
  proto.set_text(answer.text);
  proto.set_stop_string(answer.stop_string);
  proto.set_document_id(answer.document_id);
  proto.set_model(answer.model);
  v1::Usage& usage = *proto.mutable_usage();
  usage.set_document_tokens(answer.usage.document_tokens);
  usage.set_question_tokens(answer.usage.question_tokens);
  usage.set_generated_tokens(answer.usage.generated_tokens);
  usage.set_tokens_computed(answer.usage.tokens_computed);
  usage.set_tokens_reused(answer.usage.tokens_reused);
  for (const EvidenceSpan& span : answer.evidence) {
    v1::EvidenceSpan& added = *proto.add_evidence();
    added.set_begin_byte(span.begin_byte);
    added.set_end_byte(span.end_byte);
    added.set_text(span.text);
    added.set_attention(span.attention);
    added.set_chunk(span.chunk);
  }
  v1::Exactness& exactness = *proto.mutable_exactness();
  exactness.set_exact(answer.exactness.exact);
  exactness.set_kept_mass_mean(answer.exactness.kept_mass_mean);
  exactness.set_kept_mass_min(answer.exactness.kept_mass_min);
  *exactness.mutable_policy() = ToProto(answer.exactness.policy);
  exactness.set_fell_back_to_exact(answer.exactness.fell_back_to_exact);
  exactness.set_numerics(answer.exactness.numerics);
  exactness.set_kv_cache(answer.exactness.kv_cache);
  v1::Timings& timings = *proto.mutable_timings();
  *timings.mutable_queue() = ToProto(answer.timings.queue);
  *timings.mutable_prefill() = ToProto(answer.timings.prefill);
  *timings.mutable_time_to_first_text() = ToProto(answer.timings.time_to_first_text);
  *timings.mutable_decode() = ToProto(answer.timings.decode);
  *timings.mutable_total() = ToProto(answer.timings.total);
  timings.set_prefill_tokens_per_second(answer.prefill_tokens_per_second());
  timings.set_decode_tokens_per_second(answer.decode_tokens_per_second());
  proto.set_considered_ratio(answer.considered_ratio);
  proto.set_evidence_strength(answer.evidence_strength);
  proto.set_question_coverage(answer.question_coverage);
  proto.set_no_evidence(answer.no_evidence);
  if (answer.null_score_difference) {
    proto.set_null_score_difference(*answer.null_score_difference);
  }
  proto.set_reading(ToProto(answer.reading));
  return proto;
}

v1::ModelInfo::Kind ToProto(ModelKind kind) {
  switch (kind) {
    case ModelKind::kGenerative:
      return v1::ModelInfo::KIND_GENERATIVE;
    case ModelKind::kSeq2Seq:
      return v1::ModelInfo::KIND_SEQ2SEQ;
    case ModelKind::kExtractive:
      return v1::ModelInfo::KIND_EXTRACTIVE;
  }
  return v1::ModelInfo::KIND_UNSPECIFIED;
}

v1::ModelInfo ToProto(const ModelInfo& model) {
  v1::ModelInfo proto;
  proto.set_name(model.name);
  proto.set_family(model.family);
  proto.set_kind(ToProto(model.kind));
  proto.set_format(model.format);
  proto.set_quantization(model.quantization);
  proto.set_numerics(model.numerics);
  proto.set_fingerprint(model.fingerprint);
  proto.set_parameters(model.parameters);
  proto.set_weight_bytes(model.weight_bytes);
  proto.set_window(static_cast<uint32_t>(model.context_length));
  proto.set_vocabulary(static_cast<uint32_t>(model.vocabulary));
  proto.set_layers(static_cast<uint32_t>(model.layers));
  proto.set_kv_bytes_per_token(model.page_tokens == 0 ? 0 : model.page_bytes / model.page_tokens);
  *proto.mutable_default_policy() = ToProto(model.default_policy);
  proto.set_supports_ffn_top_k(model.ffn_units > 0);
  proto.set_prompt_format(model.prompt_format);
  proto.set_prompt_format_reason(model.prompt_format_reason);
  proto.set_supports_sampling(model.kind != ModelKind::kExtractive);
  *proto.mutable_load_time() = ToProto(model.load_time);
  if (model.no_answer_threshold) proto.set_no_answer_threshold(*model.no_answer_threshold);
  return proto;
}

v1::Limits ToProto(const EngineLimits& limits) {
  v1::Limits proto;
  proto.set_max_document_bytes(limits.max_document_bytes);
  proto.set_max_question_bytes(limits.max_question_bytes);
  proto.set_max_new_tokens(limits.max_new_tokens);
  proto.set_default_max_new_tokens(limits.default_max_new_tokens);
  proto.set_max_top_k(kMaxTopK);
  proto.set_max_evidence_spans(limits.max_evidence_spans);
  proto.set_max_stop_strings(limits.max_stop_strings);
  return proto;
}

v1::UploadProgress::Stage ToProto(UploadStage stage) {
  switch (stage) {
    case UploadStage::kReceiving:
      return v1::UploadProgress::STAGE_RECEIVING;
    case UploadStage::kQueued:
      return v1::UploadProgress::STAGE_QUEUED;
    case UploadStage::kTokenizing:
      return v1::UploadProgress::STAGE_TOKENIZING;
    case UploadStage::kPrefill:
      return v1::UploadProgress::STAGE_PREFILL;
  }
  return v1::UploadProgress::STAGE_UNSPECIFIED;
}

v1::Progress::Stage ToProto(AskStage stage) {
  switch (stage) {
    case AskStage::kTokenizing:
      return v1::Progress::STAGE_TOKENIZING;
    case AskStage::kPrefillDocument:
      return v1::Progress::STAGE_PREFILL_DOCUMENT;
    case AskStage::kPrefillQuestion:
      return v1::Progress::STAGE_PREFILL_QUESTION;
    case AskStage::kSearch:
      return v1::Progress::STAGE_SEARCH;
  }
  return v1::Progress::STAGE_UNSPECIFIED;
}

}  // namespace lectern
