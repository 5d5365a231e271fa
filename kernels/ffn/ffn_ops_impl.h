// The operations of ffn_ops_table.h for the class that this is compiled for; included by
// ffn_ops_<class>.cc only.
#pragma once

#include "kernels/ffn/ffn_products_impl.h"
#include "kernels/ffn/ffn_select_impl.h"

namespace lectern::kernels {
namespace {

constexpr FfnOps kOps = {Dots, Activate, Keys, FindCut, ListKept, ZeroDropped, Mix};

}  // namespace
}  // namespace lectern::kernels
