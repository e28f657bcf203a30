"""Theta on a GPU.

backend    the back end that the engine opens, bound to one GPU
folds      its folds, through CuPy; their kernels are in `theta.cu`
"""
