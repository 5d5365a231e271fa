// The tensors of one source, by name. Owns the names; the bytes belong to the mapped file.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/formats/tensor_source.h"

namespace lectern {

class TensorTable {
 public:
  // False if the name is taken. `view.name` is replaced by the table's copy.
  bool Add(std::string name, TensorView view) {
    const auto [entry, added] = views_.emplace(std::move(name), std::move(view));
    if (added) entry->second.name = entry->first;
    return added;
  }

  const TensorView* Find(std::string_view name) const {
    const auto entry = views_.find(name);
    return entry == views_.end() ? nullptr : &entry->second;
  }

  std::vector<std::string_view> Names() const {
    std::vector<std::string_view> names;
    names.reserve(views_.size());
    for (const auto& [name, view] : views_) names.push_back(name);
    return names;
  }

 private:
  std::map<std::string, TensorView, std::less<>> views_;
};

}  // namespace lectern
