#include "kernels/rows/row_ops_impl.h"

namespace lectern::kernels {

extern const RowOps kRowOpsAvx2 = kOps;

}  // namespace lectern::kernels
