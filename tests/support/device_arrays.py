"""How do learners run on a GPU without one? Arrays with CuPy's manners: as strict, but computed by NumPy.

They are never taken for NumPy's, nor mixed with them: what would fail under CuPy, or move data unseen, fails
here. Only what the learners use is there.
"""

from types import SimpleNamespace

import numpy as np


class DeviceArray(np.lib.mixins.NDArrayOperatorsMixin):
    """cupy.ndarray. of : its values."""

    __hash__ = None

    def __init__(self, of):
        self.of = of

    shape = property(lambda self: self.of.shape)
    dtype = property(lambda self: self.of.dtype)
    size = property(lambda self: self.of.size)
    ndim = property(lambda self: self.of.ndim)
    T = property(lambda self: DeviceArray(self.of.T))

    def get(self):
        return self.of.copy()

    def __array__(self, *_, **__):
        raise TypeError("Implicit conversion to a NumPy array is not allowed.")

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **kwargs):
        assert method == "__call__"
        made = ufunc(*map(_inner, inputs), out=tuple(map(_inner, out)) or None, **kwargs)
        return out[0] if out else DeviceArray(np.asarray(made))

    def __len__(self):
        return len(self.of)

    def __float__(self):
        return float(self.of)

    def __int__(self):
        return int(self.of)

    def __bool__(self):
        return bool(self.of)

    def __getitem__(self, place):
        return DeviceArray(np.asarray(self.of[_index(place)]))

    def __setitem__(self, place, values):
        self.of[_index(place)] = _inner(values)


def _inner(value):
    """What NumPy computes with, in place of an array of the device or a number."""
    if isinstance(value, DeviceArray):
        return value.of
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")  # CuPy's words
    return value


def _index(place):
    return tuple(map(_inner, place)) if isinstance(place, tuple) else _inner(place)


def _lifted(function):
    """A function of NumPy's, or a method, for arrays of the device."""

    def lifted(*args, **kwargs):
        inner = [list(map(_inner, a)) if isinstance(a, list) else _inner(a) for a in args]
        made = function(*inner, **{name: _inner(value) for name, value in kwargs.items()})
        if isinstance(made, tuple):
            return tuple(map(DeviceArray, made))
        return DeviceArray(np.asarray(made))

    return lifted


for _name in "sum mean max argmax astype reshape ravel copy take swapaxes dot".split():
    setattr(DeviceArray, _name, _lifted(getattr(np.ndarray, _name)))


def asarray(values):
    """To the device; a copy, as it is on a GPU."""
    return values if isinstance(values, DeviceArray) else DeviceArray(np.array(values))


_FUNCTIONS = (
    "abs arange clip column_stack concatenate empty empty_like eye flatnonzero log log1p logaddexp maximum"
    " ones outer sqrt vstack where zeros zeros_like"
)
globals().update({name: _lifted(getattr(np, name)) for name in _FUNCTIONS.split()})
linalg = SimpleNamespace(eigh=_lifted(lambda a: tuple(np.linalg.eigh(a))), solve=_lifted(np.linalg.solve))


def exp(values, out=None):
    """In place where `out` asks for it."""
    return np.exp(values) if out is None else np.exp(values, out=out)


def divide(one, other, out):
    return np.divide(one, other, out=out)
