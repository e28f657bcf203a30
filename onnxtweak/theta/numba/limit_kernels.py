"""How are limits raised by a few samples? Innermost loops of `limit_loops`, as vector instructions.

The maxima of up to `TARGETS` targets stay in registers while samples pass by, and a factor is a memory
operand that the multiplication itself broadcasts (a separate broadcast would occupy the unit that compares).
Maxima are `x > b ? x : b`: a NaN never wins.

In a packed strip, panels are `panel` elements apart, and sample r of a panel lies at `r * LANES`.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from onnxtweak.theta.numba.count_kernels import StreamSums
from onnxtweak.theta.numba.simd import (
    BETWEEN_TESTS,
    FLOAT,
    INT,
    LANES,
    LONG,
    PANELS,
    SIGN_FREE,
    STREAMS,
    TESTED,
    WIDE,
    emit,
)


@intrinsic
def raise_panel(typing, best, at, apart, values, start, factors, first, rows, count, width):
    """best[t] = max(best[t], v * factor) for `width` targets, a panel of neurons, and chosen samples.

    best : maxima, target t from `at + t * apart` on. values : a packed panel from `start` on. factors :
    sample r has those of the targets from `first + r * width` on. rows (count,) uint32 : the samples.
    width : a tuple as long as there are targets, so that each number of targets is compiled for itself.
    """
    targets = len(width)

    def write(e, best, at, apart, values, start, factors, first, rows, count, _):
        builder = e.builder
        places = [builder.add(at, builder.mul(apart, LONG(t))) for t in range(targets)]
        kept = [e.keep(e.load(best, place)) for place in places]
        with cgutils.for_range(builder, count) as loop:
            row = builder.zext(e.scalar(rows, loop.index), LONG)
            v = e.load(values, builder.add(start, builder.mul(row, LONG(LANES))))
            at_factor = builder.add(first, builder.mul(row, LONG(targets)))
            for t in range(targets):
                factor = e.spread(e.scalar(factors, e.at(at_factor, t)))
                builder.store(e.larger(builder.fmul(v, factor), builder.load(kept[t])), kept[t])
        for place, one in zip(places, kept, strict=True):
            e.store(builder.load(one), best, place)

    arguments = (best, at, apart, values, start, factors, first, rows, count, width)
    return emit(types.void, arguments, write)


@intrinsic
def raise_strip(typing, best, at, values, start, panel, factors, rows, count):
    """best = max(best, v * factor) for one target, a strip of neurons, and chosen samples.

    best : maxima from `at` on. values : a packed strip from `start` on. rows (count,) uint32 : the samples;
    factors (count,) : theirs.
    """

    def write(e, best, at, values, start, panel, factors, rows, count):
        builder = e.builder
        kept = [e.keep(e.load(best, e.at(at, k * LANES))) for k in range(PANELS)]
        with cgutils.for_range(builder, count) as loop:
            row = builder.zext(e.scalar(rows, loop.index), LONG)
            factor = e.spread(e.scalar(factors, loop.index))
            place = builder.add(start, builder.mul(row, LONG(LANES)))
            for one in kept:
                product = builder.fmul(e.load(values, place), factor)
                builder.store(e.larger(product, builder.load(one)), one)
                place = builder.add(place, panel)
        for k, one in enumerate(kept):
            e.store(builder.load(one), best, e.at(at, k * LANES))

    return emit(types.void, (best, at, values, start, panel, factors, rows, count), write)


@intrinsic
def pack_strip(typing, values, at, apart, ahead, count, packed, start, panel, tops, top_at):
    """Copy some samples of a strip into a packed strip, and the bits of each one's largest |v| into `tops`.

    values : sample i from `at + i * apart` on; what lies `ahead` of it is prefetched.
    tops : int32, from `top_at` on. Returns the largest of them, which is at least the bits of infinity if
    some value is not finite, and the bitwise or of all v, whose sign bit tells a negative.
    """

    def write(e, values, at, apart, ahead, count, packed, start, panel, tops, top_at):
        builder = e.builder
        magnitude = ir.Constant(ir.VectorType(INT, LANES), [SIGN_FREE] * LANES)
        signs = e.keep(ir.Constant(ir.VectorType(INT, LANES), [0] * LANES))
        highest = e.keep(INT(0))
        with cgutils.for_range(builder, count) as loop:
            source = builder.add(at, builder.mul(loop.index, apart))
            target = builder.add(start, builder.mul(loop.index, LONG(LANES)))
            some, top = builder.load(signs), None
            for k in range(PANELS):
                v = e.load(values, e.at(source, k * LANES))
                e.store(v, packed, target)
                target = builder.add(target, panel)
                bits = e.bits(v)
                some = builder.or_(some, bits)
                size = builder.and_(bits, magnitude)
                top = size if top is None else builder.select(builder.icmp_signed(">", size, top), size, top)
            builder.store(some, signs)
            e.fetch(values, builder.add(source, ahead))
            one = e.reduce("smax", top)
            builder.store(one, builder.gep(tops, [builder.add(top_at, loop.index)]))
            above = builder.icmp_signed(">", one, builder.load(highest))
            builder.store(builder.select(above, one, builder.load(highest)), highest)
        found = [builder.load(highest), e.reduce("or", builder.load(signs))]
        return cgutils.pack_array(builder, found)

    arguments = (values, at, apart, ahead, count, packed, start, panel, tops, top_at)
    return emit(types.UniTuple(types.int32, 2), arguments, write)


@intrinsic
def ones(typing, mask):
    """The number of bits set in a uint32."""
    return emit(types.uint32, (types.uint32,), lambda e, mask: e.call("llvm.ctpop.i32", INT, mask))


@intrinsic
def floor_of_strip(typing, best, at):
    """The smallest of a strip of maxima, none of which is negative: a product must exceed it to matter."""

    def write(e, best, at):
        low = e.load(best, at)
        for k in range(1, PANELS):
            low = e.smaller(e.load(best, e.at(at, k * LANES)), low)
        return e.builder.bitcast(e.reduce("smin", e.bits(low)), FLOAT)

    return emit(types.float32, (best, at), write)


@intrinsic
def within_reach(typing, factors, at, top, mask, floors):
    """One bit per target of `TESTED`, from `at` on: whether `top * factor` is above the floor.

    mask : applied to the bits of a factor; without the sign where values may be negative.
    """

    def write(e, factors, at, top, mask, floors):
        builder = e.builder
        factor = e.floats(builder.and_(e.bits(e.load(factors, at, TESTED)), e.spread(mask, TESTED)))
        product = builder.fmul(factor, e.spread(top, TESTED))
        above = builder.fcmp_ordered(">", product, e.load(floors, LONG(0), TESTED))
        return builder.zext(builder.bitcast(above, ir.IntType(TESTED)), INT)

    return emit(types.uint32, (factors, at, top, mask, floors), write)


@intrinsic
def raise_span(typing, values, at, following, factors, first, best, start, apart, panels, width):
    """best[t] = max(best[t], v * factor) for `width` targets, a span of neurons, and `STREAMS` samples.

    values : sample i from `at[i]` on; what lies from `following[i]` on is prefetched. factors :
    sample i has those of the targets from `first + i * width` on. best : target t from `start + t * apart`
    on. Returns whether some value may not be finite (or finite ones have too large a sum), and the bitwise or
    of all values, whose sign bit tells a negative.
    """
    targets = len(width)

    def write(e, values, at, following, factors, first, best, start, apart, panels, _):
        builder = e.builder
        zero = ir.Constant(ir.VectorType(FLOAT, LANES), [0.0] * LANES)
        begins, soon = ([e.scalar(each, LONG(i)) for i in range(STREAMS)] for each in (at, following))
        # Additions wait for each other: two at a time.
        sums, signs = [e.keep(zero), e.keep(zero)], e.keep(e.bits(zero))
        with cgutils.for_range(builder, panels) as loop:
            k = builder.mul(loop.index, LONG(LANES))
            place = builder.add(start, k)
            places = [builder.add(place, builder.mul(apart, LONG(t))) for t in range(targets)]
            kept = [e.load(best, place) for place in places]
            some = builder.load(signs)
            for i, begin in enumerate(begins):
                v = e.load(values, builder.add(begin, k))
                e.prefetch(values, builder.add(soon[i], k))
                builder.store(builder.fadd(builder.load(sums[i % 2]), v), sums[i % 2])
                some = builder.or_(some, e.bits(v))
                for t in range(targets):
                    factor = e.spread(e.scalar(factors, e.at(first, i * targets + t)))
                    kept[t] = e.larger(builder.fmul(v, factor), kept[t])
            builder.store(some, signs)
            for place, one in zip(places, kept, strict=True):
                e.store(one, best, place)
        total = builder.fadd(builder.load(sums[0]), builder.load(sums[1]))
        rest = builder.fsub(total, total)  # NaN unless finite
        wrong = builder.sext(builder.fcmp_unordered("uno", rest, rest), ir.VectorType(INT, LANES))
        return cgutils.pack_array(builder, [e.reduce("or", wrong), e.reduce("or", builder.load(signs))])

    arguments = (values, at, following, factors, first, best, start, apart, panels, width)
    return emit(types.UniTuple(types.int32, 2), arguments, write)


@intrinsic
def raise_row(typing, values, at, factor, best, start, panels):
    """best = max(best, v * factor) for one target, a span of neurons, and one sample."""

    def write(e, values, at, factor, best, start, panels):
        builder = e.builder
        spread = e.spread(factor)
        with cgutils.for_range(builder, panels) as loop:
            k = builder.mul(loop.index, LONG(LANES))
            place = builder.add(start, k)
            product = builder.fmul(e.load(values, builder.add(at, k)), spread)
            e.store(e.larger(product, e.load(best, place)), best, place)

    return emit(types.void, (values, at, factor, best, start, panels), write)


@intrinsic
def copy_span(typing, source, at, target, start, panels, soon):
    """Copy a span of one array into another; what lies `soon` elements on is prefetched."""

    def write(e, source, at, target, start, panels, soon):
        builder = e.builder
        with cgutils.for_range(builder, panels) as loop:
            k = builder.mul(loop.index, LONG(LANES))
            place = builder.add(at, k)
            e.store(e.load(source, place), target, builder.add(start, k))
            e.prefetch(source, builder.add(place, soon))

    return emit(types.void, (source, at, target, start, panels, soon), write)


@intrinsic
def top_of_span(typing, values, at, following, tops, panels, total, peak, places, ahead, adds):
    """tops = max(tops, |v|) over `STREAMS` samples and a span of neurons.

    values, at, following : as of `raise_span`. total, peak, places, ahead : as of `StreamSums`, which are
    made too unless `adds` is an empty tuple. Returns the bits of the largest, which are at least those of
    infinity if some value is not finite, and the bitwise or of all values, whose sign bit tells a negative.
    """
    adding = len(adds) > 0

    def write(e, values, at, following, tops, panels, total, peak, places, ahead, _):
        builder = e.builder
        magnitude = ir.Constant(ir.VectorType(INT, LANES), [SIGN_FREE] * LANES)
        zeros = ir.Constant(ir.VectorType(INT, LANES), [0] * LANES)
        begins, soon = ([e.scalar(each, LONG(i)) for i in range(STREAMS)] for each in (at, following))
        sums = StreamSums(e, total, peak, places, ahead) if adding else None
        signs, highest = e.keep(zeros), e.keep(zeros)

        def larger(a, b):  # the bits of non-negative floats are ordered like integers, NaN above all others
            return builder.select(builder.icmp_signed(">", a, b), a, b)

        with cgutils.for_range(builder, panels) as loop:
            k = builder.mul(loop.index, LONG(LANES))
            top, some = e.keep(e.bits(e.load(tops, k))), e.keep(builder.load(signs))
            for i, begin in enumerate(begins):
                v = e.load(values, builder.add(begin, k))
                e.prefetch(values, builder.add(soon[i], k))
                bits = e.bits(v)
                builder.store(builder.or_(builder.load(some), bits), some)
                builder.store(larger(builder.and_(bits, magnitude), builder.load(top)), top)
                if sums is not None:
                    sums.add(i, v, k)
            builder.store(builder.load(some), signs)
            builder.store(larger(builder.load(top), builder.load(highest)), highest)
            e.store(e.floats(builder.load(top)), tops, k)
        found = [e.reduce("smax", builder.load(highest)), e.reduce("or", builder.load(signs))]
        return cgutils.pack_array(builder, found)

    arguments = (values, at, following, tops, panels, total, peak, places, ahead, adds)
    return emit(types.UniTuple(types.int32, 2), arguments, write)


@intrinsic
def raise_ranked(typing, values, at, rows, factors, first, count, best, start, soon, tops, here):
    """best = max(best, v * factor) for one target and `WIDE` panels, until no later sample can matter.

    values : a sample's from its `rows` + at on. rows, factors : samples from `first` on, the largest |factor|
    first, `count` times `BETWEEN_TESTS` of them. best : from `start` on; what lies `soon` elements on is
    prefetched. tops : the largest |v| of each neuron, from `here` on. Returns how many of `count` were tried.
    """

    def write(e, values, at, rows, factors, first, count, best, start, soon, tops, here):
        builder = e.builder
        for p in range(WIDE):
            e.prefetch(best, e.at(builder.add(start, soon), p * LANES))
        kept = [e.keep(e.load(best, e.at(start, p * LANES))) for p in range(WIDE)]
        most = [e.load(tops, e.at(here, p * LANES)) for p in range(WIDE)]
        done = e.keep(LONG(0))
        mask = ir.IntType(LANES)
        with cgutils.for_range(builder, count) as loop:
            place = builder.add(first, builder.mul(loop.index, LONG(BETWEEN_TESTS)))
            factor = e.scalar(factors, place)
            size = builder.bitcast(builder.and_(builder.bitcast(factor, INT), INT(SIGN_FREE)), FLOAT)
            size, within = e.spread(size), mask(0)
            for top, one in zip(most, kept, strict=True):
                above = builder.fcmp_ordered(">", builder.fmul(top, size), builder.load(one))
                within = builder.or_(within, builder.bitcast(above, mask))
            with builder.if_then(builder.icmp_unsigned("==", within, mask(0))):
                loop.do_break()
            builder.store(builder.add(loop.index, LONG(1)), done)
            for sample in (e.at(place, i) for i in range(BETWEEN_TESTS)):
                row, factor = builder.add(e.scalar(rows, sample), at), e.spread(e.scalar(factors, sample))
                for p, one in enumerate(kept):
                    product = builder.fmul(e.load(values, e.at(row, p * LANES)), factor)
                    builder.store(e.larger(product, builder.load(one)), one)
        with builder.if_then(builder.icmp_unsigned("!=", builder.load(done), LONG(0))):
            for p, one in enumerate(kept):
                e.store(builder.load(one), best, e.at(start, p * LANES))
        return builder.load(done)

    arguments = (values, at, rows, factors, first, count, best, start, soon, tops, here)
    return emit(types.uintp, arguments, write)
