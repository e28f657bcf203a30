"""Theta on a GPU.

backend    the folds that the engine calls, through CuPy; their kernels are in `theta.cu`
"""
