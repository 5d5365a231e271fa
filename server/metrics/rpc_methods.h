// The RPC methods of the server: the label values of grpc_method and the names in the log. A
// method that no service has is kUnknown. A test compares the table with the services' protos.
#pragma once

#include <cstddef>

namespace lectern {

enum class RpcMethod {
  kUploadDocument,
  kGetDocument,
  kListDocuments,
  kDeleteDocument,
  kAsk,
  kAskMany,
  kCountTokens,
  kListModels,
  kGetServerStatus,
  kServerLive,
  kServerReady,
  kModelReady,
  kServerMetadata,
  kModelMetadata,
  kModelInfer,
  kModelStreamInfer,
  kModelConfig,
  kHealthCheck,
  kHealthWatch,
  kUnknown
};

// The label of one value of an enum that counts from 0.
template <typename E>
struct Label {
  E value;
  const char* name;
};

// True if `labels` has a row for each value up to `last`, in order.
template <typename E, size_t N>
constexpr bool AreLabelsOf(const Label<E> (&labels)[N], E last) {
  for (size_t i = 0; i < N; ++i) {
    if (static_cast<size_t>(labels[i].value) != i) return false;
  }
  return N == static_cast<size_t>(last) + 1;
}

inline constexpr Label<RpcMethod> kMethodLabels[] = {
    {RpcMethod::kUploadDocument, "lectern.v1.DocumentQA/UploadDocument"},
    {RpcMethod::kGetDocument, "lectern.v1.DocumentQA/GetDocument"},
    {RpcMethod::kListDocuments, "lectern.v1.DocumentQA/ListDocuments"},
    {RpcMethod::kDeleteDocument, "lectern.v1.DocumentQA/DeleteDocument"},
    {RpcMethod::kAsk, "lectern.v1.DocumentQA/Ask"},
    {RpcMethod::kAskMany, "lectern.v1.DocumentQA/AskMany"},
    {RpcMethod::kCountTokens, "lectern.v1.DocumentQA/CountTokens"},
    {RpcMethod::kListModels, "lectern.v1.DocumentQA/ListModels"},
    {RpcMethod::kGetServerStatus, "lectern.v1.DocumentQA/GetServerStatus"},
    {RpcMethod::kServerLive, "inference.GRPCInferenceService/ServerLive"},
    {RpcMethod::kServerReady, "inference.GRPCInferenceService/ServerReady"},
    {RpcMethod::kModelReady, "inference.GRPCInferenceService/ModelReady"},
    {RpcMethod::kServerMetadata, "inference.GRPCInferenceService/ServerMetadata"},
    {RpcMethod::kModelMetadata, "inference.GRPCInferenceService/ModelMetadata"},
    {RpcMethod::kModelInfer, "inference.GRPCInferenceService/ModelInfer"},
    {RpcMethod::kModelStreamInfer, "inference.GRPCInferenceService/ModelStreamInfer"},
    {RpcMethod::kModelConfig, "inference.GRPCInferenceService/ModelConfig"},
    {RpcMethod::kHealthCheck, "grpc.health.v1.Health/Check"},
    {RpcMethod::kHealthWatch, "grpc.health.v1.Health/Watch"},
    {RpcMethod::kUnknown, "other"}};
static_assert(AreLabelsOf(kMethodLabels, RpcMethod::kUnknown));

// The name of `value` in its table of labels.
template <typename E, size_t N>
constexpr const char* LabelOf(const Label<E> (&labels)[N], E value) {
  return labels[static_cast<size_t>(value)].name;
}

}  // namespace lectern
