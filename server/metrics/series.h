// Tools for tables of metrics: registered families, series by label value, bucket lists.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "server/metrics/rpc_methods.h"

namespace lectern {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;

// first, first * factor, ... up to last.
inline Buckets Powers(double first, double last, double factor) {
  Buckets buckets;
  for (double bound = first; bound <= last; bound *= factor) buckets.push_back(bound);
  return buckets;
}

// Several series of one metric, one for each value of a label. All exist from the start.
template <typename T>
class ByLabel {
 public:
  // `more` are further labels that all of them share; `args` go to the constructor of a series.
  template <typename Names, typename... Args>
  ByLabel(prometheus::Family<T>& family, const char* label, const Names& values,
          const prometheus::Labels& more = {}, const Args&... args) {
    for (const auto& value : values) {
      prometheus::Labels labels = more;
      labels[label] = NameOf(value);
      by_value_[NameOf(value)] = &family.Add(labels, args...);
    }
  }
  // The series of `value`, or of "other".
  T& operator[](std::string_view value) const {
    const auto found = by_value_.find(value);
    return *(found == by_value_.end() ? by_value_.find("other") : found)->second;
  }

 private:
  static std::string NameOf(std::string_view value) { return std::string(value); }
  template <typename E>
  static std::string NameOf(const Label<E>& label) {
    return label.name;
  }

  std::map<std::string, T*, std::less<>> by_value_;
};

// Series by model and one more label.
template <typename T>
class ByModel {
 public:
  template <typename Names, typename... Args>
  ByModel(prometheus::Family<T>& family, const std::vector<std::string>& models, const char* label,
          const Names& values, const Args&... args) {
    for (const std::string& model : models) {
      by_model_.emplace(model, ByLabel<T>(family, label, values, {{"model", model}}, args...));
    }
  }
  // The series of `model`, or of "other".
  const ByLabel<T>& operator[](std::string_view model) const {
    const auto found = by_model_.find(model);
    return (found == by_model_.end() ? by_model_.find("other") : found)->second;
  }

 private:
  std::map<std::string, ByLabel<T>, std::less<>> by_model_;
};

// Registers families, which live as long as the registry.
class Maker {
 public:
  explicit Maker(prometheus::Registry* registry) : registry_(registry) {}

  prometheus::Family<Counter>& Counters(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_);
  }
  prometheus::Family<Gauge>& Gauges(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_);
  }
  prometheus::Family<Histogram>& Histograms(const char* name, const char* help) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_);
  }
  Counter& OneCounter(const char* name, const char* help) { return Counters(name, help).Add({}); }
  Gauge& OneGauge(const char* name, const char* help) { return Gauges(name, help).Add({}); }
  Histogram& OneHistogram(const char* name, const char* help, const Buckets& buckets) {
    return Histograms(name, help).Add({}, buckets);
  }

 private:
  prometheus::Registry* const registry_;
};

}  // namespace lectern
