"""The users' own values to bytes and back: msgpack with extension types, never pickle.

What goes in comes out: a tuple stays a tuple, a set a set, and what has no form is refused with the place where it
sits, never flattened to something similar. There is one exception: a bytearray or memoryview comes back as bytes.
The forms of single types are in :mod:`headway_bus.payload_types`; docs/protocol.md describes them for other languages.

Encoding takes the C packer as long as it can. Only a value that holds something bulky (an array, a frame, or bytes from
1 MiB on) is put together from pieces instead, so that 100 MiB are copied once and not three times.

Bytes from outside are decoded by msgspec, which builds nothing that the input is too short for. Nesting ends at
``MAX_NESTING`` extensions in one another and, for arrays and maps, at the interpreter's recursion limit: 500 levels
always pass, beyond 1024 the encoder refuses, and in between it depends on how deep the decoding program's stack is.

Code by value (``cloudpickle``) is here too, because it fills the same place in a message. Decoding it runs code of the
sender's choice: only a runtime and a client that both allow it may call these functions.
"""

from __future__ import annotations

import pickle
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, cast

import msgpack
import msgspec

from headway_bus.errors import CannotDecode, CannotEncode, PayloadError, TooLarge
from headway_bus.payload_types import FORMS, Buffer, Extension, Form, refusal

DEFAULT_LIMIT = 1024 * 1024 * 1024
"""Bytes of one encoded value, where no limit is given: the default of ``payload_limit`` in ``config.toml``."""

MAX_NESTING = 64
"""Extension values inside one another (tuples in tuples, say). Each level costs a few frames of the Python stack."""

BULK = 1024 * 1024
"""Bytes from which a buffer is no longer passed through the packer, which would copy it twice more."""

_KEPT_BUFFER = 4 * BULK
_EXTENSION_HEAD = struct.Struct(">BIb")  # msgpack's ext 32: marker, length, code
_BINARY_HEAD = struct.Struct(">BI")  # bin 32
_ARRAY_HEAD = struct.Struct(">BI")  # array 32
_MAP_HEAD = struct.Struct(">BI")  # map 32
_MAX_PART = 2**32 - 1
_BINARIES = (bytes, bytearray)


# ------------------------------------------------------------------------------------------------------ encoding


class _BulkyError(Exception):
    """The value holds a large buffer: it is to be put together from pieces. Never leaves this file."""


class _Packer:
    """A C packer and its way to the extension types. Not reentrant: a nested value takes another one."""

    __slots__ = ("_nesting", "_pack")

    def __init__(self) -> None:
        self._nesting = 0
        # strict_types: subclasses come to the hook instead of being flattened to their base.
        self._pack = msgpack.Packer(strict_types=True, default=self._extension, buf_size=4096).pack

    def pack(self, value: Any, nesting: int) -> bytes:
        self._nesting = nesting
        return cast(bytes, self._pack(value))

    def _extension(self, value: Any) -> msgpack.ExtType:
        form = _form_of(value)
        if form.nested:
            return msgpack.ExtType(form.code, _pack(form.take(value), _deeper(self._nesting)))
        parts = form.take(value)
        if sum(map(len, parts)) >= BULK:
            raise _BulkyError
        return msgpack.ExtType(form.code, parts[0] if len(parts) == 1 else b"".join(parts))


_idle: list[_Packer] = []
"""Packers not in use: making one costs more than a small value. Threads share it, as list.pop and append are atomic."""


def _pack(value: Any, nesting: int) -> bytes:
    try:
        packer = _idle.pop()
    except IndexError:
        packer = _Packer()
    data = packer.pack(value, nesting)
    if len(data) < _KEPT_BUFFER:  # a packer never gives its buffer back, and one that failed is dropped as well
        _idle.append(packer)
    return data


_TOO_DEEP = f"nested too deeply (at most 500 lists and dicts, or {MAX_NESTING} tuples and sets), or holding itself"


def _deeper(nesting: int) -> int:
    if nesting >= MAX_NESTING:
        raise CannotEncode(_TOO_DEEP)
    return nesting + 1


def _form_of(value: Any) -> Form:
    kind = type(value)
    form = FORMS.get(kind)
    if form is None:
        form = _foreign_form(kind)
        if form is None:
            raise CannotEncode(refusal(value))
        FORMS[kind] = form
    return form


def _foreign_form(kind: type) -> Form | None:
    """The form of a class of numpy or pandas, which are imported only when a value of theirs is there already."""
    package = kind.__module__.partition(".")[0]
    if package == "numpy":
        from headway_bus import payload_arrays

        return payload_arrays.find_form(kind)
    if package == "pandas":
        from headway_bus import payload_frames

        return payload_frames.find_form(kind)
    return None


def _pieces(value: Any, nesting: int) -> list[Buffer]:
    """Buffers that follow one another. Each level tries the packer first, so only the way to a bulk is walked here."""
    kind = type(value)
    if kind in _BINARIES and len(value) >= BULK:
        return [_BINARY_HEAD.pack(0xC6, _countable(len(value))), value]
    try:
        return [_pack(value, nesting)]
    except _BulkyError:
        pass
    if kind is list:
        return _joined(_ARRAY_HEAD.pack(0xDD, len(value)), value, nesting)
    if kind is dict:
        return _joined(_MAP_HEAD.pack(0xDF, len(value)), [part for item in value.items() for part in item], nesting)
    form = _form_of(value)
    parts = _pieces(form.take(value), _deeper(nesting)) if form.nested else form.take(value)
    return [_EXTENSION_HEAD.pack(0xC9, _countable(sum(map(len, parts))), form.code), *parts]


def _joined(head: bytes, values: Sequence[Any], nesting: int) -> list[Buffer]:
    parts: list[Buffer] = [head]
    for value in values:
        parts += _pieces(value, nesting)
    return parts


def _countable(size: int) -> int:
    if size > _MAX_PART:
        raise TooLarge(f"one part of {size} bytes; msgpack cannot hold more than {_MAX_PART} in one piece")
    return size


def encode(value: Any, limit: int = DEFAULT_LIMIT, what: str = "the value") -> bytes:
    """The value's bytes.

    ``limit``: bytes. ``what``: how errors call the value, "the result". Raises CannotEncode with the place in the value
    and what to do, TooLarge if it is beyond the limit.
    """
    try:
        return _bytes_of(value, limit, what, type(value) in _BINARIES and len(value) >= BULK)
    except TooLarge:
        raise
    except Exception as error:  # whatever a value's own methods raise must end as an error about that value
        raise _fault(value, what, error) from None


def _bytes_of(value: Any, limit: int, what: str, bulky: bool) -> bytes:
    if not bulky:
        try:
            data = _pack(value, 0)
        except _BulkyError:
            bulky = True
        else:
            if len(data) > limit:
                raise _too_large(len(data), limit, what)
            return data
    parts = _pieces(value, 0)
    size = sum(map(len, parts))
    if size > limit:
        raise _too_large(size, limit, what)
    return b"".join(parts)


def _too_large(size: int, limit: int, what: str) -> TooLarge:
    return TooLarge(
        f"{what}: {size} bytes on the wire, the limit is {limit} ([bus] payload_limit in config.toml, or "
        "HEADWAY_BUS_PAYLOAD_LIMIT); nothing was sent. Pass a path or a key to shared storage instead"
    )


# ------------------------------------------------------------------------------------------------------ faults


def _fault(value: Any, what: str, error: Exception) -> PayloadError:
    """The error that says where in the value the trouble is. Walks the value again: only failures pay for it."""
    if isinstance(error, MemoryError | BufferError):
        return TooLarge(f"{what}: this process has not the memory to encode it")
    path = [what]
    reason = _locate(value, path, 0) or _reason(error)
    return CannotEncode(f"{', '.join(path)}: {reason}")


def _locate(value: Any, path: list[str], depth: int) -> str:
    """The reason of the first fault inside ``value``, with ``path`` extended to it; empty if there is none."""
    try:
        _pieces(value, 0)
        return ""
    except Exception as error:
        reason = _reason(error)
    if depth <= MAX_NESTING and reason != _TOO_DEEP:
        for step, inner in _steps(value):
            path.append(step)
            deeper = _locate(inner, path, depth + 1)
            if deeper:
                return deeper
            path.pop()
    return reason


def _steps(value: Any) -> list[tuple[str, Any]]:
    """The parts of a container, each with what a person calls its place. Items count from 0, as indices do."""
    kind = type(value)
    if kind in (list, tuple):
        return [(f"item {at}", inner) for at, inner in enumerate(value)]
    if kind in (set, frozenset):
        return [("a member", inner) for inner in value]
    if kind is dict:
        keys = [(f"the key {_shown(key)} itself", key) for key in value]
        return keys + [(f"key {_shown(key)}", inner) for key, inner in value.items()]
    return []


def _shown(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 60 else text[:57] + "..."


def _reason(error: Exception) -> str:
    if isinstance(error, PayloadError):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        return "a str with lone surrogates is not Unicode text and has no UTF-8; send bytes"
    if isinstance(error, RecursionError) or "recursion limit" in str(error):
        return _TOO_DEEP
    return f"it cannot be encoded: {type(error).__name__}: {error}"


# ------------------------------------------------------------------------------------------------------ decoding


def decode(buffer: Buffer | bytearray) -> Any:
    """The value. Large binaries and arrays are copied once, out of the buffer. Raises CannotDecode."""
    return _guarded(_decoder(0), buffer)


def _guarded(decoder: Callable[[Any], Any], buffer: Buffer | bytearray) -> Any:
    try:
        if sys.getrecursionlimit() > _SAFE_RECURSION:
            _check_depth(buffer)
        return decoder(buffer)
    except CannotDecode:
        raise
    except RecursionError:
        raise CannotDecode(f"{len(buffer)} bytes that are nested too deeply to be a value") from None
    except Exception as error:  # hostile bytes can make any constructor raise anything; all of it means the same
        raise CannotDecode(f"{len(buffer)} bytes are not a value: {error}") from None


_SAFE_RECURSION = 10_000
"""Above this recursion limit, Python 3.11 lets C code recurse until the stack is gone, and the process with it."""


def _check_depth(buffer: Buffer | bytearray) -> None:
    """Where the interpreter's own guard was switched off: msgpack's parser counts levels, and stops at 1024."""
    unpacker = msgpack.Unpacker(max_buffer_size=0)
    unpacker.feed(buffer)
    try:
        unpacker.skip()
    except msgpack.exceptions.StackError:
        raise RecursionError from None


@lru_cache(maxsize=MAX_NESTING + 2)
def _decoder(nesting: int) -> Callable[[Any], Any]:
    """The decoder for what lies ``nesting`` extensions deep: it has no state, so threads may share it."""
    return msgspec.msgpack.Decoder(ext_hook=partial(_build, nesting)).decode


def _build(nesting: int, code: int, data: memoryview) -> Any:
    form = _forms_by_code().get(code) or _foreign_form_of(code)
    if not form.nested:
        return form.build(data)
    if nesting >= MAX_NESTING:
        raise RecursionError
    return form.build(_guarded(_decoder(nesting + 1), data))


@lru_cache(maxsize=1)
def _forms_by_code() -> dict[int, Form]:
    return {form.code.value: form for form in FORMS.values()}


def _foreign_form_of(code: int) -> Form:
    """A form of numpy or pandas, imported now because a value of theirs has come."""
    try:
        if code in (Extension.ARRAY, Extension.SCALAR):
            from headway_bus import payload_arrays

            found = [payload_arrays.ARRAY, payload_arrays.SCALAR]
        elif Extension.SERIES <= code <= Extension.PANDAS_SCALAR:
            from headway_bus import payload_frames

            found = list(payload_frames.ALL)
        else:
            raise CannotDecode(f"extension type {code} is not known here; was it sent by a newer headway?")
    except ImportError as error:
        package = "numpy" if code in (Extension.ARRAY, Extension.SCALAR) else "pandas"
        raise CannotDecode(f"the value holds something of {package}, which cannot be imported here: {error}") from None
    _forms_by_code().update((form.code.value, form) for form in found)
    return _forms_by_code()[code]


# ------------------------------------------------------------------------------------------------------ calls


def encode_call(
    args: Sequence[Any], kwargs: Mapping[str, Any], extras: Mapping[str, Any] | None = None, limit: int = DEFAULT_LIMIT
) -> bytes:
    """A task's payload: the array of positional arguments, the map of named ones, the map of extras.

    ``extras`` of commands and scripts: ``params`` (a map), ``env`` (text to text), ``cwd`` (text). Raises CannotEncode,
    which counts arguments from 1, as Python does, and items from 0 ("argument 2, key 'x', item 3: …"), and TooLarge.
    """
    call = [list(args), dict(kwargs), dict(extras) if extras else {}]
    bulky = False
    for argument in args:  # a loop and not any(): this is the hot path of every submission
        if type(argument) in _BINARIES and len(argument) >= BULK:
            bulky = True
    try:
        return _bytes_of(call, limit, "the arguments", bulky)
    except TooLarge:
        raise
    except Exception as error:
        raise _call_fault(call, error) from None


def _call_fault(call: list[Any], error: Exception) -> PayloadError:
    args, kwargs, extras = call
    named = [(f"argument {at}", value) for at, value in enumerate(args, 1)]
    named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
    named += [(str(name), value) for name, value in extras.items()]
    for what, value in named:
        path = [what]
        reason = _locate(value, path, 0)
        if reason:
            return CannotEncode(f"{', '.join(path)}: {reason}")
    return _fault(call, "the arguments", error)


def decode_call(buffer: Buffer | bytearray) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """(args, kwargs, extras), as they were given to :func:`encode_call`. Raises CannotDecode."""
    call = decode(buffer)
    if type(call) is not list or len(call) != 3 or not _is_call(*call):
        raise CannotDecode("a task's payload is an array of arguments, a map of named arguments, and a map of extras")
    args, kwargs, extras = call
    if (kwargs or extras) and not all(type(name) is str for name in (*kwargs, *extras)):
        raise CannotDecode("the names of arguments and extras are text")
    return tuple(args), kwargs, extras


def _is_call(args: Any, kwargs: Any, extras: Any) -> bool:
    return type(args) is list and type(kwargs) is dict and type(extras) is dict


# ------------------------------------------------------------------------------------------------------ by value


def encode_by_value(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], limit: int = DEFAULT_LIMIT
) -> bytes:
    """A function with its code, and its arguments, by cloudpickle. Raises CannotEncode, TooLarge."""
    return encode_result_by_value((function, tuple(args), dict(kwargs)), limit, "the function and its arguments")


def encode_result_by_value(value: Any, limit: int = DEFAULT_LIMIT, what: str = "the result") -> bytes:
    """Any value, by cloudpickle. Raises CannotEncode, TooLarge."""
    try:
        import cloudpickle
    except ImportError:
        raise CannotEncode("code by value needs cloudpickle: pip install 'headway[pickle]'") from None
    try:
        data = cast(bytes, cloudpickle.dumps(value))
    except Exception as error:  # a pickled object's own __reduce__ may raise anything
        raise CannotEncode(f"{what}: cannot be pickled: {type(error).__name__}: {error}") from None
    if len(data) > limit:
        raise _too_large(len(data), limit, what)
    return data


def decode_by_value(buffer: Buffer | bytearray) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
    """(function, args, kwargs) of :func:`encode_by_value`. RUNS CODE OF THE SENDER'S CHOICE. Raises CannotDecode."""
    call = decode_result_by_value(buffer)
    if not (isinstance(call, tuple) and len(call) == 3 and callable(call[0])):
        raise CannotDecode("a task's payload by value is a function, its arguments, and its named arguments")
    return cast("tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]", call)


def decode_result_by_value(buffer: Buffer | bytearray) -> Any:
    """Any value of :func:`encode_result_by_value`. RUNS CODE OF THE SENDER'S CHOICE. Raises CannotDecode."""
    try:
        return pickle.loads(buffer)
    except ModuleNotFoundError as error:
        raise CannotDecode(f"what was sent by value needs a module that is not here: {error}") from None
    except Exception as error:  # unpickling runs arbitrary constructors
        raise CannotDecode(f"cannot be unpickled: {type(error).__name__}: {error}") from None
