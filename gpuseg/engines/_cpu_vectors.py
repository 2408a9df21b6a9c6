"""Sums that stay in registers, for numba kernels: a tuple of vectors, `GROUP` sums beside each other.

LLVM vectorises a loop, but keeps no sum in a register while other arrays pass by, and that is what sums of
products live on. Here a kernel says so itself. A vector is 64 bytes of neighbours in an array; where
registers are smaller, LLVM takes several. Sum g of a group has its place `apart` further than that of the
sum before; where the tuple is twice or four times as long as a group, each sum is so many vectors wide.

Positions are those in a flat array, and need not be aligned.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.cgutils import do_boundscheck, unpack_tuple
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


def _pointer(context: Any, builder: Any, kind: Any, value: Any, at: Any) -> Any:
    vector, array = context.get_value_type(Vector(kind.dtype)), make_array(kind)(context, builder, value)
    if context.enable_boundscheck:  # NUMBA_BOUNDSCHECK, as for any other index
        (length,) = unpack_tuple(builder, array.shape)
        do_boundscheck(context, builder, _plus(builder, at, vector.count - 1), length)
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


def _places(builder: Any, sums: types.UniTuple, at: Any, apart: Any) -> list[Any]:
    """Where each vector of a tuple lies."""
    width = sums.count // GROUP
    places = []
    for _ in range(GROUP):
        places += [_plus(builder, at, part * sums.dtype.lanes) for part in range(width)]
        at = builder.add(at, apart)
    return places


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
def store_all(typingctx, sums, array, at, apart):
    """array[at + g * apart] = sums[g], for every g and vector."""

    def generate(context, builder, signature, args):
        values, numbers, at, apart = args
        for which, place in enumerate(_places(builder, sums, at, apart)):
            _store(context, builder, array, numbers, place, builder.extract_value(values, which))
        return context.get_dummy_value()

    return types.void(sums, array, types.uintp, types.uintp), generate
