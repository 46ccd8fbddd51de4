"""Vectors of single-precision numbers in a processor's registers, for kernels that loops alone do not vectorise.

A kernel loads as many numbers as it has lanes, and multiplies and adds them all at once; a processor with shorter
registers takes several. Within a kernel they are used as numbers are::

    total = multiply(load(weights, 0, LANES), load(row, 0, LANES))
    total = multiply_add(load(weights, LANES, LANES), load(row, LANES, LANES), total)
    store(total, results, 0)

Indices are those of a contiguous array of one dimension, and are not examined.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

__all__ = ["load", "multiply", "multiply_add", "repeat", "store", "total"]

#: Kernels call these functions with other arguments than those that numba generates them from.
_intrinsic: Any = intrinsic
#: Fused multiplications and additions are allowed.
_FUSED = ("contract",)
_INDEX = ir.IntType(32)


class _Lanes(types.Type):
    """As many float32 as there are lanes."""

    def __init__(self, lanes: int) -> None:
        self.lanes = lanes
        super().__init__(name=f"Lanes({lanes})")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: _Lanes) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.FloatType(), fe_type.lanes))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any, vector: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


@_intrinsic(prefer_literal=True)
def load(typing_context: Any, array: Any, index: Any, lanes: Any) -> Any:
    """Return ``lanes`` numbers of an array from an index on."""
    kind = _Lanes(lanes.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(kind)
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], vector)
        return builder.load(pointer, align=4)

    return kind(array, types.intp, lanes), generate


@_intrinsic
def store(typing_context: Any, numbers: Any, array: Any, index: Any) -> Any:
    """Write numbers to an array from an index on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(numbers)
        pointer = _pointer(context, builder, signature.args[1], arguments[1], arguments[2], vector)
        builder.store(arguments[0], pointer, align=4)
        return context.get_dummy_value()

    return types.void(numbers, array, types.intp), generate


@_intrinsic(prefer_literal=True)
def repeat(typing_context: Any, number: Any, lanes: Any) -> Any:
    """Return one number in every lane."""
    kind = _Lanes(lanes.literal_value)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(kind)
        nothing = ir.Constant(vector, ir.Undefined)
        first = builder.insert_element(nothing, arguments[0], ir.Constant(_INDEX, 0))
        return builder.shuffle_vector(first, nothing, _places([0] * kind.lanes))

    return kind(types.float32, lanes), generate


@_intrinsic
def multiply(typing_context: Any, one: Any, two: Any) -> Any:
    """Return products."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return one(one, two), generate


@_intrinsic
def multiply_add(typing_context: Any, one: Any, two: Any, three: Any) -> Any:
    """Return the products of the first two plus the third."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        product = builder.fmul(arguments[0], arguments[1], flags=_FUSED)
        return builder.fadd(product, arguments[2], flags=_FUSED)

    return one(one, two, three), generate


@_intrinsic
def total(typing_context: Any, numbers: Any) -> Any:
    """Return the sum over all lanes, of halves: of a power of two."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        (part,) = arguments
        n = numbers.lanes
        while n > 1:
            nothing, n = ir.Constant(part.type, ir.Undefined), n // 2
            lower = builder.shuffle_vector(part, nothing, _places(range(n)))
            upper = builder.shuffle_vector(part, nothing, _places(range(n, 2 * n)))
            part = builder.fadd(lower, upper)
        return builder.extract_element(part, ir.Constant(_INDEX, 0))

    return types.float32(numbers), generate


def _places(lanes: Any) -> Any:
    places = list(lanes)
    return ir.Constant(ir.VectorType(_INDEX, len(places)), places)
