"""The arithmetic of theta (METHOD 1, 2, 11): arrays in, arrays out.

gaps        logits and labels of a batch -> signed reciprocal gaps
state       chunk, combine, finish: what is kept between batches
numpy_backend, numba_backend, cupy_backend
            the two folds that touch every hidden value
limits, raising, counting, vector, threads
            what numba_backend is made of: the fold of limits, innermost loops, how they are written, shared
line_search the exact best weight along one direction
reference   brute force, for tests and for readers
"""
