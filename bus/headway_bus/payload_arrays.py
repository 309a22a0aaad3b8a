"""numpy arrays and scalars as extension types. Importing this file imports numpy.

The data of both is the msgpack array ``[dtype, [dimension, …], elements]``: dtype as numpy's ``dtype.str`` (``"<f8"``),
the elements as one binary in C order. Only plain element types travel. An array of objects would need pickle, a
structured one a language of its own, and ``longdouble`` means something else on every machine.

A decoded array owns its memory and can be written to. That costs one copy; a view into the received frame would be
read-only (``x += 1`` fails on one machine and not on another), unaligned, and would hold the whole message in memory.
"""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import msgspec
import numpy as np

from headway_bus.errors import CannotEncode
from headway_bus.payload_types import Buffer, Extension, Form, type_name

MAX_DIMENSIONS = 32

_PLAIN_DTYPE = re.compile(
    r"\|b1|\|[iu]1|[<>][iu][248]|[<>]f[248]|[<>]c(8|16)"
    r"|[<>][mM]8(\[\d{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?|\|S[1-9]\d{0,8}|[<>]U[1-9]\d{0,8}"
)
_BINARY_HEAD = struct.Struct(">BI")  # msgpack's bin 32

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[str, list[int], memoryview]).decode


def find_form(kind: type) -> Form | None:
    """The form of one of numpy's own classes, None where it has none (a masked array, a matrix)."""
    if kind is np.ndarray or kind is np.memmap:
        return ARRAY
    return SCALAR if issubclass(kind, np.generic) else None


def _take(value: Any) -> list[Buffer]:
    dtype = value.dtype.str
    if value.dtype.hasobject or not _PLAIN_DTYPE.fullmatch(dtype):
        raise CannotEncode(
            f"a {type_name(value)} of dtype {value.dtype} has no form on the wire; supported are booleans, integers, "
            "floats up to 64 bits, complex, dates, and text or bytes of fixed width: use astype(), or send tolist()"
        )
    array = np.asarray(value, order="C")
    head = b"\x93" + _encode(dtype) + _encode(value.shape) + _BINARY_HEAD.pack(0xC6, array.nbytes)
    # Through uint8, because dates and times do not offer themselves as buffers.
    return [head, array.reshape(-1).view(np.uint8).data] if array.nbytes else [head]


def _build_array(data: memoryview) -> Any:
    dtype_text, shape, elements = _decode(data)
    if not _PLAIN_DTYPE.fullmatch(dtype_text):
        raise ValueError(f"dtype {dtype_text[:40]!r} is not one that travels")
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise ValueError("an array's dimensions are at most 32 numbers, none of them below 0")
    dtype = np.dtype(dtype_text)
    if math.prod(shape) * dtype.itemsize != len(elements):
        raise ValueError(f"{len(elements)} bytes are not an array of shape {shape} and dtype {dtype_text}")
    return np.frombuffer(elements, dtype).reshape(shape).copy() if elements else np.empty(shape, dtype)


def _build_scalar(data: memoryview) -> Any:
    array = _build_array(data)
    if array.shape:
        raise ValueError(f"a scalar has no dimensions, this one has {len(array.shape)}")
    return array[()]


ARRAY = Form(Extension.ARRAY, False, _take, _build_array)
SCALAR = Form(Extension.SCALAR, False, _take, _build_scalar)
