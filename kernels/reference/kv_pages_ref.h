// Reads keys and values back from pages. For tests only.
#pragma once

#include <cstdint>

#include "kernels/kv/kv_pages.h"

namespace lectern::kernels {

// Reads one key row [head_dim] and one value row [value_dim], dequantised if the pages are int8.
LaunchStatus ReadKv(const KvPageLayout& layout, const KvPageTable& table, int layer, int kv_head,
                    int64_t token, float* key, float* value);

}  // namespace lectern::kernels
