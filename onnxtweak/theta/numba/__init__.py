"""Theta on the CPU, compiled by Numba.

backend            the folds that the engine calls
limits             running limits, each value read once
pruned_limits      the same, where most samples can raise none any more
limit_kernels      innermost loops of the limits
count_kernels      innermost loops of sums and counts
survivor_kernels   which ratios may still count
simd               loops written as vectors, for what LLVM does not find by itself
"""
