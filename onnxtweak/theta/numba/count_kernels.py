"""How are samples summed, and searched for survivors? Innermost loops of `count_loops`, as SIMD vectors."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from onnxtweak.theta.numba.simd import INT, LANES, LONG, emit


@intrinsic
def add_rows(typing, values, rows, first, count, at, total, peak, here, panels):
    """Sum and largest |v| of some samples over a span, sample by sample.

    values : sample i from `rows[first + i] + at` on. total (float64), peak : from `here` on.
    """

    def write(e, values, rows, first, count, at, total, peak, here, panels):
        builder = e.builder
        with cgutils.for_range(builder, panels) as span:
            k = builder.mul(span.index, LONG(LANES))
            place, source = builder.add(here, k), builder.add(at, k)
            added, largest = e.keep(e.load(total, place)), e.keep(e.load(peak, place))
            with cgutils.for_range(builder, count) as loop:
                row = e.scalar(rows, builder.add(first, loop.index))
                v = e.load(values, builder.add(row, source))
                size = e.call(f"llvm.fabs.v{LANES}f32", v.type, v)
                builder.store(builder.fadd(builder.load(added), e.double(v)), added)
                builder.store(e.larger(size, builder.load(largest)), largest)
            e.store(builder.load(added), total, place)
            e.store(builder.load(largest), peak, place)

    return emit(types.void, (values, rows, first, count, at, total, peak, here, panels), write)


@intrinsic
def beyond_panel(typing, values, at, factor, hi, lo, here):
    """One bit per neuron of a panel: whether the ratio `v * factor` of one sample is beyond the limits."""

    def write(e, values, at, factor, hi, lo, here):
        builder = e.builder
        ratio = builder.fmul(e.load(values, at), e.spread(factor))
        above = builder.fcmp_ordered(">", ratio, e.load(hi, here))
        below = builder.fcmp_ordered(">", builder.fneg(ratio), e.load(lo, here))
        found = builder.bitcast(builder.or_(above, below), ir.IntType(LANES))
        return builder.zext(found, INT)

    return emit(types.uint32, (values, at, factor, hi, lo, here), write)


@intrinsic
def lowest_bit(typing, mask):
    """The position of the lowest bit set in a uint32 that is not zero."""

    def write(e, mask):
        return e.call("llvm.cttz.i32", INT, mask, ir.IntType(1)(1))

    return emit(types.uint32, (types.uint32,), write)
