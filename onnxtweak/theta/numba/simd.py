"""How are loops written as vector instructions (SIMD)? For those that LLVM does not vectorise well by itself.

LLVM vectorises one loop over memory, and so loads and stores every running maximum for each product; loops
with a float maximum it leaves alone. What is written here reaches it as vectors as wide as the machine's.

Arrays are flat; positions and counts are unsigned, in elements. A panel is `LANES` neurons, a strip `PANELS`
panels. Numba's cache on disk notices a change of the file that a loop is in, and not of what it inlines:
after editing `limit_kernels`, `count_kernels` or `streams`, touch `limit_loops`, `pruned_limits` and
`count_loops`.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target

_FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
# As wide as the machine's registers, and as many maxima as they can hold while a few are left for the rest.
LANES, TARGETS = (16, 16) if "+avx512f" in _FEATURES else (8, 12) if "+avx" in _FEATURES else (4, 12)
STRIP = 128
PANELS = STRIP // LANES
# Panels on which ranked samples are tried at once; divides `PANELS`.
WIDE = 4
# Ranked samples that are multiplied between two tests of whether later ones can matter.
BETWEEN_TESTS = 2
# Targets whose limits are tested at once.
TESTED = 16
# Samples that pass by at once: the hardware prefetches about so many streams.
STREAMS = 8

FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
INT, LONG = ir.IntType(32), ir.IntType(64)
SIGN_FREE = 0x7FFFFFFF


class Emitter:
    """Writes vector instructions. Loads and stores take `lanes` elements, at any address."""

    def __init__(self, context, builder, signature, arguments):
        self.builder = builder
        self.values = [
            context.make_array(kind)(context, builder, value).data if isinstance(kind, types.Array) else value
            for kind, value in zip(signature.args, arguments, strict=True)
        ]
        self.module = builder.module

    def at(self, position: ir.Value, more: int) -> ir.Value:
        return self.builder.add(position, LONG(more))

    def scalar(self, base: ir.Value, position: ir.Value) -> ir.Value:
        return self.builder.load(self.builder.gep(base, [position]))

    def load(self, base: ir.Value, position: ir.Value, lanes: int = LANES) -> ir.Value:
        loaded = self.builder.load(self._address(base, position, lanes))
        loaded.align = base.type.pointee.get_abi_size(cpu_target.target_context.target_data)
        return loaded

    def store(self, value: ir.Value, base: ir.Value, position: ir.Value) -> None:
        stored = self.builder.store(value, self._address(base, position, value.type.count))
        stored.align = base.type.pointee.get_abi_size(cpu_target.target_context.target_data)

    def _address(self, base, position, lanes):
        kind = ir.VectorType(base.type.pointee, lanes).as_pointer()
        return self.builder.bitcast(self.builder.gep(base, [position]), kind)

    def spread(self, value: ir.Value, lanes: int = LANES) -> ir.Value:
        undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
        first = self.builder.insert_element(undefined, value, INT(0))
        order = ir.Constant(ir.VectorType(INT, lanes), [0] * lanes)
        return self.builder.shuffle_vector(first, undefined, order)

    def larger(self, x: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered(">", x, b), x, b)

    def smaller(self, x: ir.Value, b: ir.Value) -> ir.Value:
        return self.builder.select(self.builder.fcmp_ordered("<", x, b), x, b)

    def double(self, value: ir.Value) -> ir.Value:
        return self.builder.fpext(value, ir.VectorType(DOUBLE, value.type.count))

    def bits(self, value: ir.Value) -> ir.Value:
        return self.builder.bitcast(value, ir.VectorType(INT, value.type.count))

    def floats(self, value: ir.Value) -> ir.Value:
        return self.builder.bitcast(value, ir.VectorType(FLOAT, value.type.count))

    def call(self, name: str, result: ir.Type, *arguments: ir.Value) -> ir.Value:
        """An intrinsic of LLVM."""
        kind = ir.FunctionType(result, [value.type for value in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.module, kind, name), arguments)

    def prefetch(self, base: ir.Value, position: ir.Value) -> None:
        place = self.builder.bitcast(self.builder.gep(base, [position]), ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, INT, INT, INT])
        intrinsic = cgutils.get_or_insert_function(self.module, kind, "llvm.prefetch.p0")
        self.builder.call(intrinsic, [place, INT(0), INT(2), INT(1)])

    def fetch(self, base: ir.Value, position: ir.Value) -> None:
        """Prefetch a strip."""
        for k in range(0, STRIP, 16):
            self.prefetch(base, self.at(position, k))

    def reduce(self, how: str, value: ir.Value) -> ir.Value:
        return self.call(f"llvm.vector.reduce.{how}.v{value.type.count}i32", INT, value)

    def keep(self, value: ir.Value) -> ir.Value:
        """A variable; LLVM makes it a register."""
        return cgutils.alloca_once_value(self.builder, value)


def emit(result, arguments, write):
    """Signature and code generator, as Numba wants them of an intrinsic.

    `write(emitter, *values)` writes the instructions.
    """

    def generate(context, builder, signature, values):
        emitter = Emitter(context, builder, signature, values)
        done = write(emitter, *emitter.values)
        return context.get_dummy_value() if done is None else done

    return result(*arguments), generate


def flat(array: np.ndarray) -> np.ndarray:
    """A view of the same memory as one row.

    Raises ValueError where that would take a copy, because what is folded into a copy is lost.
    """
    if not array.flags.c_contiguous:
        raise ValueError(f"rows must lie one after the other: strides {array.strides} of shape {array.shape}")
    return array.reshape(-1)
