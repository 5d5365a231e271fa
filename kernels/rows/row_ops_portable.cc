#include "kernels/rows/row_ops_impl.h"

namespace lectern::kernels {

extern const RowOps kRowOpsPortable = kOps;

}  // namespace lectern::kernels
