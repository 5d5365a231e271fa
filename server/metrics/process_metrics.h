// process_* metrics of this process, read from /proc at each scrape.
#pragma once

#include <prometheus/collectable.h>

#include <vector>

namespace lectern {

// Stateless, thread-safe.
class ProcessMetrics : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace lectern
