"""How good is each neuron for each target (METHOD 1, 2, 11)? Arrays in, arrays out.

gaps            logits and labels of a batch -> signed reciprocal gaps
state           chunk, combine, finish: what is kept per neuron and target between batches
survivors       ratios that may still count, so that no second sweep is needed
backend         what every back end must do: a Protocol
numpy_backend   the back end in NumPy, which specifies all others
numba_backend   the one that is compiled, which loads Numba when it is needed
numba           its folds
cupy            on a GPU
threads         a kernel's range shared among threads
line_search     the exact best weight along one direction
reference       brute force, for tests and for readers
"""
