"""How good is each neuron for each target (METHOD 1, 2, 11)? Arrays in, arrays out.

gaps            logits and labels of a batch -> signed reciprocal gaps
state           chunk, combine, finish: what is kept between batches
survivors       what may still count, so that no second sweep is needed
numpy_backend   the folds that touch every hidden value, in plain NumPy
numba           the same on the CPU, compiled
cupy            the same on a GPU
threads         a kernel's range, shared among threads
line_search     the exact best weight along one direction (METHOD 3)
reference       brute force, for tests and for readers
"""
