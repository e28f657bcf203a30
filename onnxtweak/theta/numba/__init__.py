"""Theta on the CPU, compiled by Numba.

compiled           how loops become machine code, and where it is kept
backend            the folds
limits             the fold of limits: each value is read once
limit_loops        its loops over samples and neurons
pruned_limits      the same where most samples can no longer raise any limit
limit_kernels      its innermost loops, as vector instructions
count_loops        loops of sums, counts and survivors
count_kernels      their innermost loops, as vector instructions
survivor_kernels   survivors dropped and counted
streams            where samples lie that pass by together
simd               how vector instructions are written
"""
