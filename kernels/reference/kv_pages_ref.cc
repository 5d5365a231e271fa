#include "kernels/reference/kv_pages_ref.h"

#include "kernels/kv/kv_layout.h"

namespace lectern::kernels {

LaunchStatus ReadKv(const KvPageLayout& layout, const KvPageTable& table, int layer, int kv_head,
                    int64_t token, float* key, float* value) {
  if (!internal::ValidLayout(layout) || layer < 0 || layer >= layout.num_layers || kv_head < 0 ||
      kv_head >= layout.num_kv_heads || token < 0 || token >= table.num_tokens) {
    return LaunchStatus::kBadShape;
  }
  if (table.pages == nullptr || key == nullptr || value == nullptr) {
    return LaunchStatus::kBadArgument;
  }
  const internal::KvHeadLayout at = internal::HeadLayout(layout);
  const std::byte* head =
      table.pages[token / kPageTokens] + internal::HeadOffset(layout, at, layer, kv_head);
  const int64_t slot = token % kPageTokens;
  const auto floats = [&](size_t offset) { return reinterpret_cast<const float*>(head + offset); };
  if (layout.type == KvType::kF32) {
    for (int c = 0; c < layout.head_dim; ++c) key[c] = floats(at.keys)[c * kPageTokens + slot];
    for (int c = 0; c < layout.value_dim; ++c) {
      value[c] = floats(at.values)[slot * layout.value_dim + c];
    }
    return LaunchStatus::kOk;
  }
  const auto bytes = [&](size_t offset) { return reinterpret_cast<const int8_t*>(head + offset); };
  for (int c = 0; c < layout.head_dim; ++c) {
    const int8_t code = bytes(at.keys)[(c / 4) * kPageTokens * 4 + slot * 4 + c % 4];
    key[c] = floats(at.key_scale)[slot] * static_cast<float>(code);
  }
  for (int c = 0; c < layout.value_dim; ++c) {
    const int8_t code = bytes(at.values)[slot * layout.value_dim + c];
    value[c] = floats(at.value_scale)[slot] * static_cast<float>(code);
  }
  return LaunchStatus::kOk;
}

}  // namespace lectern::kernels
