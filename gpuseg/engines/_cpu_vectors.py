"""Sums that stay in registers, for numba kernels: a tuple of vectors, `GROUP` sums beside each other.

LLVM vectorises a loop, but keeps no sum in a register while other arrays pass by, and that is what sums of
products live on. Here a kernel says so itself. A vector is 64 bytes of neighbours in an array; where
registers are smaller, LLVM takes several. Sum g of a group has its place `apart` further than that of the
sum before; where the tuple is twice or four times as long as a group, each sum is so many vectors wide.

Positions are those in a flat array, and need not be aligned.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import itertools
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import do_boundscheck, pack_array, unpack_tuple
from numba.extending import intrinsic, models, register_model
from numba.np.arrayobj import make_array

GROUP = 8
"""Sums beside each other: enough to hide how long a multiplication takes."""

BYTES = 64
"""Of a vector."""

ROUNDED_ONCE = ("contract", "nsz")


class Vector(types.Type):
    """The type of a vector of float32 or float64."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(f"Vector({dtype})")

    @property
    def lanes(self) -> int:
        """How many numbers it holds."""
        return BYTES * 8 // int(self.dtype.bitwidth)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vector) -> None:
        number = dmm.lookup(fe_type.dtype).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(number, fe_type.lanes))


def _pointer(context: Any, builder: Any, kind: Any, value: Any, at: Any, lanes: int | None = None) -> Any:
    lanes = lanes or Vector(kind.dtype).lanes
    vector, array = (
        ir.VectorType(context.get_value_type(kind.dtype), lanes),
        make_array(kind)(context, builder, value),
    )
    if context.enable_boundscheck:  # NUMBA_BOUNDSCHECK, as for any other index
        (length,) = unpack_tuple(builder, array.shape)
        for number in (0, lanes - 1):
            do_boundscheck(context, builder, _plus(builder, at, number), length)
    return builder.bitcast(builder.gep(array.data, [at]), vector.as_pointer())


def _load(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    loaded = builder.load(_pointer(context, builder, kind, array, at))
    loaded.align = kind.dtype.bitwidth // 8
    return loaded


def _store(context: Any, builder: Any, kind: Any, array: Any, at: Any, vector: Any) -> None:
    stored = builder.store(vector, _pointer(context, builder, kind, array, at))
    stored.align = kind.dtype.bitwidth // 8


def _plus(builder: Any, at: Any, distance: int) -> Any:
    return builder.add(at, ir.Constant(at.type, distance))


def _row(context: Any, builder: Any, kind: Any, array: Any, at: Any, count: int) -> list[Any]:
    """So many vectors, one after the other."""
    lanes = Vector(kind.dtype).lanes
    return [_load(context, builder, kind, array, _plus(builder, at, k * lanes)) for k in range(count)]


def _places(builder: Any, sums: types.UniTuple, at: Any, apart: Any) -> list[Any]:
    """Where each vector of a tuple lies."""
    width = sums.count // GROUP
    places = []
    for _ in range(GROUP):
        places += [_plus(builder, at, part * sums.dtype.lanes) for part in range(width)]
        at = builder.add(at, apart)
    return places


@intrinsic
def lanes_of(typingctx, array):
    """How many numbers of an array a vector holds: a constant, unlike what is computed from its itemsize."""

    def generate(context, builder, signature, args):
        return context.get_constant(types.uintp, Vector(array.dtype).lanes)

    return types.uintp(array), generate


@intrinsic(prefer_literal=True)
def zeros(typingctx, array, count):
    """A tuple of `count` vectors of zeros, of the type of an array; count is a constant."""
    sums = types.UniTuple(Vector(array.dtype), count.literal_value)

    def generate(context, builder, signature, args):
        return ir.Constant(context.get_value_type(sums), None)

    return sums(array, count), generate


@intrinsic
def multiply_add(typingctx, sums, p, q, offsets, k, at):
    """sums[g] + p[offsets[k, 0] + at] * q[offsets[k, 1 + g] + at], for every g and vector."""
    width = sums.count // GROUP

    def generate(context, builder, signature, args):
        result, p_array, q_array, table, row, at = args
        entries = make_array(offsets)(context, builder, table).data
        first = builder.mul(row, ir.Constant(row.type, GROUP + 1))

        def place(column: int) -> Any:
            offset = builder.load(builder.gep(entries, [_plus(builder, first, column)]))
            return builder.add(offset, at)

        def vectors(kind: Any, array: Any, at: Any) -> list[Any]:
            lanes = sums.dtype.lanes
            return [
                _load(context, builder, kind, array, _plus(builder, at, part * lanes))
                for part in range(width)
            ]

        factors = vectors(p, p_array, place(0))
        for g in range(GROUP):
            for part, other in enumerate(vectors(q, q_array, place(1 + g))):
                which = g * width + part
                product = builder.fmul(factors[part], other, flags=ROUNDED_ONCE)
                total = builder.fadd(builder.extract_value(result, which), product, flags=ROUNDED_ONCE)
                result = builder.insert_value(result, total, which)
        return result

    return sums(sums, p, q, offsets, types.uintp, types.uintp), generate


@intrinsic
def add_all(typingctx, sums, array, at, apart):
    """sums[g] + array[at + g * apart], for every g and vector."""

    def generate(context, builder, signature, args):
        result, numbers, at, apart = args
        for which, place in enumerate(_places(builder, sums, at, apart)):
            other = _load(context, builder, array, numbers, place)
            total = builder.fadd(builder.extract_value(result, which), other, flags=ROUNDED_ONCE)
            result = builder.insert_value(result, total, which)
        return result

    return sums(sums, array, types.uintp, types.uintp), generate


@intrinsic
def load_all(typingctx, array, at):
    """`GROUP` vectors, one after the other."""
    loaded = types.UniTuple(Vector(array.dtype), GROUP)

    def generate(context, builder, signature, args):
        numbers, at = args
        return pack_array(builder, _row(context, builder, array, numbers, at, GROUP))

    return loaded(array, types.uintp), generate


@intrinsic
def sum_of(typingctx, a, b):
    """a[g] + b[g], for every vector of two tuples."""

    def generate(context, builder, signature, args):
        pairs = zip(*(unpack_tuple(builder, each) for each in args), strict=True)
        return pack_array(builder, [builder.fadd(p, q, flags=ROUNDED_ONCE) for p, q in pairs])

    return a(a, b), generate


@intrinsic(prefer_literal=True)
def fours(typingctx, array, at, step):
    """The sums of four numbers each, `step` apart, for `GROUP` vectors of neighbours; step is 1, 2 or 4.

    Each number is loaded once: what the next vectors have is moved within registers, where a load that is
    not aligned would take two.
    """
    sums = types.UniTuple(Vector(array.dtype), GROUP)
    apart = step.literal_value

    def generate(context, builder, signature, args):
        numbers, at, _ = args

        def with_next(vectors: list[Any], by: int) -> list[Any]:
            mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), list(range(by, by + lanes)))
            return [
                builder.fadd(this, builder.shuffle_vector(this, following, mask), flags=ROUNDED_ONCE)
                for this, following in itertools.pairwise(vectors)
            ]

        lanes = sums.dtype.lanes
        vectors = _row(context, builder, array, numbers, at, GROUP + 2)
        return pack_array(builder, with_next(with_next(vectors, apart), 2 * apart))

    return sums(array, types.uintp, step), generate


@intrinsic
def store_all(typingctx, sums, array, at, apart):
    """array[at + g * apart] = sums[g], for every g and vector."""

    def generate(context, builder, signature, args):
        values, numbers, at, apart = args
        for which, place in enumerate(_places(builder, sums, at, apart)):
            _store(context, builder, array, numbers, place, builder.extract_value(values, which))
        return context.get_dummy_value()

    return types.void(sums, array, types.uintp, types.uintp), generate


@intrinsic
def move(typingctx, array, at, out, to):
    """out[to] = array[at], for one vector."""

    def generate(context, builder, signature, args):
        numbers, at, result, to = args
        _store(context, builder, out, result, to, _load(context, builder, array, numbers, at))
        return context.get_dummy_value()

    return types.void(array, at, out, to), generate


@intrinsic
def correlate(typingctx, sums, at, statistics, half, a, b, out, to):
    """One vector of scores: sums[at] * scale_a * scale_b - level_a * level_b, in [-1, 1], goes to out[to].

    scale_a is statistics[a], level_a is statistics[half + a]; those of b likewise. NaN stays NaN.
    """
    number, lanes = sums.dtype, Vector(sums.dtype).lanes

    def generate(context, builder, signature, args):
        def times(p: Any, q: Any) -> Any:
            return builder.fmul(p, q, flags=ROUNDED_ONCE)

        numbers, at, known, half, a, b, result, to = args
        scale, level, other_scale, other_level = (
            _load(context, builder, statistics, known, place)
            for place in (a, builder.add(half, a), b, builder.add(half, b))
        )
        total = _load(context, builder, sums, numbers, at)
        score = builder.fsub(
            times(times(total, scale), other_scale), times(level, other_level), flags=ROUNDED_ONCE
        )
        for bound, beyond in ((1.0, ">"), (-1.0, "<")):
            limit = ir.Constant(score.type, [bound] * lanes)
            score = builder.select(builder.fcmp_ordered(beyond, score, limit), limit, score)
        if out.dtype != number:
            score = builder.fptrunc(score, ir.VectorType(context.get_value_type(out.dtype), lanes))
        stored = builder.store(score, _pointer(context, builder, out, result, to, lanes))
        stored.align = out.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(sums, at, statistics, half, a, b, out, to), generate
