"""What has a program that is forked loaded already? The package, Dask, and the loops that Numba keeps."""

import contextlib
import gc

import numpy as np

import onnxtweak.cli.main  # noqa: F401
from onnxtweak import commands
from onnxtweak.engine.backends import folds_correctly
from onnxtweak.theta.numba.survivor_kernels import keep_beyond
from onnxtweak.theta.numba_backend import NumbaBackend

with contextlib.suppress(ImportError):  # the extra `dask` is not installed
    import distributed  # noqa: F401

for _name in commands.__all__:
    getattr(commands, _name)  # loads it
folds_correctly(NumbaBackend(1))
none, nothing = np.empty(0, np.int32), np.empty(0, np.float32)
keep_beyond(none, none, nothing, np.empty((1, 1), np.float32), np.empty((1, 1), np.float32))
gc.freeze()  # or looking for garbage in a fork would copy every page
