// How long OpenMP's threads wait for the next part of a model step by spinning before they sleep.
#pragma once

namespace lectern {

// A model step has hundreds of short parallel parts. libgomp's default spins for milliseconds,
// which is well on an idle machine and makes steps many times longer beside another busy process
// (docs/kernels_linear.md); a short spin costs little on either. libgomp reads GOMP_SPINCOUNT when
// it is loaded, so this starts the program anew with the variable set, unless it or OMP_WAIT_POLICY
// is set already. To be called first thing in main().
void LimitSpinning(char** argv);

}  // namespace lectern
