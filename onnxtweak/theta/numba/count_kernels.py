"""How are samples summed, and searched for survivors? Innermost loops of `count_loops`, as SIMD vectors."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from onnxtweak.theta.numba.simd import DOUBLE, FLOAT, INT, LANES, LONG, STREAMS, emit


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


class StreamSums:
    """Sums and largest |v| of `STREAMS` samples, taken as these pass by; in registers until a target ends.

    total (float64), peak : flat. places : where the target of each sample begins in them, at the span's first
    neuron; -1 for a sample of none. What is `ahead` elements on is prefetched.
    """

    def __init__(self, e, total, peak, places, ahead):
        self.e, self.total, self.peak, self.ahead = e, total, peak, ahead
        self.places = [e.scalar(places, LONG(i)) for i in range(STREAMS)]
        self.added = e.keep(ir.Constant(ir.VectorType(DOUBLE, LANES), [0.0] * LANES))
        self.largest = e.keep(ir.Constant(ir.VectorType(FLOAT, LANES), [0.0] * LANES))

    def add(self, i, v, k):
        """Add sample `i`, whose values at panel position `k` are `v`."""
        e, builder = self.e, self.e.builder
        if i == 0:
            self._begin(0, k)
        else:
            another = builder.icmp_signed("!=", self.places[i], self.places[i - 1])
            with builder.if_then(another):
                self._end(i - 1, k)
                self._begin(i, k)
        size = e.call(f"llvm.fabs.v{LANES}f32", v.type, v)
        builder.store(builder.fadd(builder.load(self.added), e.double(v)), self.added)
        builder.store(e.larger(size, builder.load(self.largest)), self.largest)
        if i == STREAMS - 1:
            self._end(i, k)

    def _begin(self, i, k):
        e, builder = self.e, self.e.builder
        with builder.if_then(builder.icmp_signed(">=", self.places[i], LONG(0))):
            at = builder.add(self.places[i], k)
            builder.store(e.load(self.total, at), self.added)
            builder.store(e.load(self.peak, at), self.largest)
            next_at = builder.add(at, self.ahead)
            e.prefetch(self.total, next_at)
            e.prefetch(self.total, e.at(next_at, 8))
            e.prefetch(self.peak, next_at)

    def _end(self, i, k):
        e, builder = self.e, self.e.builder
        with builder.if_then(builder.icmp_signed(">=", self.places[i], LONG(0))):
            at = builder.add(self.places[i], k)
            e.store(builder.load(self.added), self.total, at)
            e.store(builder.load(self.largest), self.peak, at)


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
