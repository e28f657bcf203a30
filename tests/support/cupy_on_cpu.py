"""How do the CUDA kernels run without a GPU? What `theta.cupy` uses of CuPy, with kernels compiled as C++."""

import ctypes
import hashlib
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

SHIM = Path(__file__).with_name("cuda_on_cpu.h")


@cache
def compiler():
    """A C++ compiler, or None."""
    for name in ("g++", "clang++"):
        found = shutil.which(name)
        command = [found, "-std=c++17", "-fsyntax-only", "-x", "c++", SHIM]
        if found and subprocess.run(command, capture_output=True).returncode == 0:
            return found
    return None


WORK = Path(tempfile.gettempdir())

ndarray = np.ndarray
asarray, full, arange = np.asarray, np.full, np.arange
zeros, ones = np.zeros, np.ones
maximum, nonzero, searchsorted = np.maximum, np.nonzero, np.searchsorted


class Copied(np.ndarray):
    def set(self, values):
        self[...] = values


def empty(shape, dtype):
    return np.empty(shape, dtype).view(Copied)


class get_default_memory_pool:
    def free_all_blocks(self):
        freed.append("all blocks")


freed = []


def asnumpy(array, out):
    out[...] = array


class cuda:
    class Device:
        attributes = MappingProxyType({"MultiProcessorCount": 2})

        def __init__(self, number=0):
            assert number == 0
            self.id = number

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def use(self):
            return self

    class memory:
        class OutOfMemoryError(Exception):
            pass

    class runtime:
        memGetInfo = staticmethod(lambda: (2**30, 2**31))

    class get_current_stream:
        def synchronize(self):
            return None

    class Stream:
        def __init__(self, non_blocking):
            assert non_blocking  # else it would wait for the kernels, and they for it

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def synchronize(self):
            return None

    alloc_pinned_memory = staticmethod(bytearray)


class RawKernel:
    """Compiled when first called. Arrays go in as pointers, NumPy scalars by value, as in CuPy."""

    def __init__(self, code, name, options):
        self.code, self.name, self.options = code, name, options
        self.function = None

    def __call__(self, grid, block, arguments):
        if self.function is None:
            self.function = self.compiled()
        for given, (kind, pointer) in zip(arguments, self.parameters(), strict=True):
            assert isinstance(given, np.ndarray) == pointer, (self.name, kind)
            assert given.dtype.newbyteorder("=") in KINDS[kind], (self.name, kind, given.dtype)
        plain = [
            ctypes.c_void_p(given.ctypes.data)
            if isinstance(given, np.ndarray)
            else SCALARS[given.dtype](given)
            for given in arguments
        ]
        self.function(*(ctypes.c_uint(n) for n in (grid[0], grid[1], block[0])), *plain)

    def parameters(self):
        """(type, whether a pointer) of each parameter, read from the source."""
        return _parameters(next(m[2] for m in _KERNEL.finditer(self.code) if m[1] == self.name))

    def compiled(self):
        """One library for all kernels of the source that these options leave in it."""
        whole = "\0".join((SHIM.read_text(), self.code, *self.options))
        library = WORK / f"theta-{hashlib.sha256(whole.encode()).hexdigest()[:16]}.so"
        if not library.exists():
            with tempfile.TemporaryDirectory() as folder:
                source, made = Path(folder, "kernel.cpp"), Path(folder, "kernel.so")
                source.write_text(f'#include "{SHIM}"\n{_KERNEL.sub(_with_entry, self.code)}\n')
                # Hidden: what is static in a template would be one for all libraries of the process.
                how = ["-std=c++17", "-O1", "-shared", "-fPIC", "-fvisibility=hidden", "-pthread"]
                subprocess.run([compiler(), *how, *self.options, "-o", made, source], check=True)
                shutil.copy(made, library.with_suffix(f".{id(self)}"))
            library.with_suffix(f".{id(self)}").replace(library)
        return getattr(ctypes.CDLL(str(library)), f"run_{self.name}")


_KERNEL = re.compile(
    r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\((.*?)\)\s*{', re.DOTALL
)


def _parameters(text):
    found = [re.match(r"(?:const )?(\w+(?: \w+)?)(\*?)", part.strip()) for part in text.split(",")]
    return [(re.sub(r" \w+$", "", m[1]) if not m[2] else m[1], bool(m[2])) for m in found]


def _with_entry(kernel):
    """The beginning of a kernel, and before it a function that runs it in threads, left in where it is."""
    name, text = kernel[1], kernel[2]
    kinds = [f"{kind}{'*' if pointer else ''}" for kind, pointer in _parameters(text)]
    declared = ", ".join(f"{kind} a{i}" for i, kind in enumerate(kinds))
    names = ", ".join(f"a{i}" for i in range(len(kinds)))
    return (
        f'extern "C" void {name}({text});\n'
        'extern "C" __attribute__((visibility("default"))) '
        f"void run_{name}(unsigned x, unsigned y, unsigned threads, {declared}) "
        f"{{ launch(x, y, threads, [=] {{ {name}({names}); }}); }}\n{kernel[0]}"
    )


KINDS = {
    "float": {np.dtype(np.float32)},
    "double": {np.dtype(np.float64)},
    "int": {np.dtype(np.int32)},
    "unsigned": {np.dtype(np.uint32)},
    "index_t": {np.dtype(np.int64)},
    "unsigned char": {np.dtype(np.uint8), np.dtype(bool)},
}
SCALARS = {np.dtype(np.int32): ctypes.c_int, np.dtype(np.int64): ctypes.c_longlong}
