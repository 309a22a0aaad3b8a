"""One attempt inside a child process: find the callable, decode, call, encode, and say what went wrong."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import importlib
import mmap
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from headway_bus.copying import settle
from headway_bus.endpoint import Frame
from headway_bus.errors import CannotDecode, CannotEncode, PayloadError, TooLarge
from headway_bus.file_result import FileResult
from headway_bus.ids import TaskId
from headway_bus.payloads import (
    decode_by_value,
    decode_call,
    encode,
    encode_result_by_value,
)
from headway_bus.records import AttemptEnd, Blob, Ended, ErrorInfo, File, Kind, Reason
from headway_runtime.files import WorkFolder
from headway_runtime.orders import DEVICES_VARIABLE, ChildSettings, ChildSpec

TRACEBACK_CHARACTERS = 16_000
MESSAGE_CHARACTERS = 4_000
_FRAMES_OF_THE_LOOP = ("/asyncio/runners.py", "/asyncio/base_events.py")
_OWN_FOLDER = str(Path(__file__).parent)


class AttemptStopped(BaseException):
    """Raised in the main thread of a child when its attempt must stop. Not an Exception, so ``except Exception`` of
    the user's code lets it through, as it does KeyboardInterrupt."""


class _FaultError(Exception):
    """The attempt fails, for this reason. Never leaves this file."""

    def __init__(self, error: ErrorInfo) -> None:
        super().__init__(error.message)
        self.error = error


class Runner:
    """Runs attempts, one at a time, in the thread that calls it."""

    def __init__(self, settings: ChildSettings) -> None:
        self._settings = settings
        self._functions: dict[int, Callable[..., Any]] = {}
        self._models: dict[str, Callable[..., Any]] = {}
        self._runner: asyncio.Runner | None = None
        self.running_task: asyncio.Task[Any] | None = None
        """The async callable that runs now, for whoever must stop it from another thread."""

        self.loop: asyncio.AbstractEventLoop | None = None
        self._devices = ""
        self._devices_of_process = os.environ.get(DEVICES_VARIABLE)

    def forget(self) -> None:
        """The numbers of specs mean something else from now on."""
        self._functions.clear()

    def run(self, spec: ChildSpec, task: TaskId, attempt: int, payload: Frame | Blob) -> tuple[Ended, Frame | None]:
        """The end of the attempt, and the result if it is not within the record.

        Raises AttemptStopped if that was raised in it.
        """
        begun = monotonic()
        seconds = 0.0
        try:
            if spec.devices != self._devices:
                self._show_devices(spec.devices)
            function, args, kwargs = self._prepare(spec, payload)
            begun = monotonic()
            value = function(*args, **kwargs)
            if hasattr(type(value), "__await__"):
                value = self._await(value)
            seconds = monotonic() - begun
            if self._settings.slow > 1.0:
                sleep(seconds * (self._settings.slow - 1.0))
                seconds *= self._settings.slow
            del args, kwargs
            if isinstance(value, FileResult):
                return self._left(task, attempt, seconds, value.path)
            data = self._encode(spec, value)
        except AttemptStopped:
            raise
        except _FaultError as fault:
            return Ended(task, attempt, AttemptEnd.FAILED, seconds, b"", fault.error), None
        except BaseException as error:
            seconds = seconds or monotonic() - begun
            return Ended(task, attempt, AttemptEnd.FAILED, seconds, b"", describe(error)), None
        if len(data) <= self._settings.inline_bytes:
            return Ended(task, attempt, AttemptEnd.SUCCEEDED, seconds, data), None
        return self._large(task, attempt, seconds, data)

    def _show_devices(self, devices: str) -> None:
        """Let the attempt see its own GPUs, or (none) those that the process saw in the beginning."""
        self._devices = devices
        if devices or self._devices_of_process is not None:
            os.environ[DEVICES_VARIABLE] = devices or self._devices_of_process or ""
        else:
            os.environ.pop(DEVICES_VARIABLE, None)

    def _large(self, task: TaskId, attempt: int, seconds: float, data: bytes) -> tuple[Ended, Frame | None]:
        if len(data) <= self._settings.frame_bytes:
            return Ended(task, attempt, AttemptEnd.SUCCEEDED, seconds, 0), data
        try:
            blob = self._write_blob(data)
        except OSError as error:
            text = f"the result of {len(data)} bytes cannot be written to {self._settings.blobs}: {error}"
            return Ended(task, attempt, AttemptEnd.FAILED, seconds, b"", ErrorInfo(Reason.ENCODE, text)), None
        return Ended(task, attempt, AttemptEnd.SUCCEEDED, seconds, blob), None

    def _left(self, task: TaskId, attempt: int, seconds: float, path: Path) -> tuple[Ended, Frame | None]:
        """The end of an attempt whose result is a file's content."""
        folder = WorkFolder(Path(self._settings.blobs).parent, keep=self._settings.durable)
        limit = self._settings.file_limit
        try:
            if not path.is_file():  # a pipe or a device has no end, or none that anybody knows of
                raise OSError(errno.EINVAL, "there is no regular file of that name")
            if (size := path.stat().st_size) > limit:
                text = (
                    f"the file {str(path)!r} has {size} bytes; one may have {limit} ([bus] file_limit in config.toml)"
                )
                raise _FaultError(ErrorInfo(Reason.TOO_LARGE, text))
            if size <= self._settings.inline_bytes:
                content = encode(path.read_bytes())
                return Ended(task, attempt, AttemptEnd.SUCCEEDED, seconds, content), None
            files = [File("", folder.keep_file(path))]
        except OSError as error:
            text = f"the file {str(path)!r} cannot be kept as the result: {error}"
            raise _FaultError(ErrorInfo(Reason.ENCODE, text)) from None
        return Ended(task, attempt, AttemptEnd.SUCCEEDED, seconds, files=files), None

    def _write_blob(self, data: bytes) -> Blob:
        blob = Blob(hashlib.blake2b(data, digest_size=32).digest(), len(data))
        path = Path(self._settings.blobs) / blob.hash.hex()
        if not path.exists() or path.stat().st_size != len(data):
            partial = path.with_suffix(f".{os.getpid()}")
            try:
                partial.write_bytes(data)
                partial.rename(path)
            finally:
                partial.unlink(missing_ok=True)
        if self._settings.durable:
            settle(path)
        return blob

    def _prepare(
        self, spec: ChildSpec, payload: Frame | Blob
    ) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        function = self._functions.get(spec.number)
        if function is None and not spec.by_value:
            function = self._find(spec)
            self._functions[spec.number] = function
        content = self._open(payload) if isinstance(payload, Blob) else payload
        try:
            if function is None:
                return decode_by_value(content)
            args, kwargs, _ = decode_call(content)
        except CannotDecode as error:
            raise _FaultError(ErrorInfo(Reason.DECODE, f"the arguments cannot be decoded: {error}")) from None
        return function, args, kwargs

    def _open(self, blob: Blob) -> Frame:
        path = Path(self._settings.blobs) / blob.hash.hex()
        try:
            with path.open("rb") as file:
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except (OSError, ValueError) as error:
            raise _FaultError(ErrorInfo(Reason.DECODE, f"the arguments cannot be read from {path}: {error}")) from None

    def _find(self, spec: ChildSpec) -> Callable[..., Any]:
        if spec.kind is not Kind.MODEL:
            return resolve(spec.target)
        model = self._models.get(spec.target)
        if model is None:
            try:
                model = resolve(spec.target)()
            except _FaultError:
                raise
            except Exception as error:
                info = describe(error)
                text = f"the model's factory {spec.target} raised {info.message}"
                raise _FaultError(ErrorInfo(Reason.IMPORT, text, info.type, info.traceback, bases=info.bases)) from None
            if not callable(model):
                text = f"the model's factory {spec.target} returned a {type(model).__name__}, which cannot be called"
                raise _FaultError(ErrorInfo(Reason.IMPORT, text))
            self._models[spec.target] = model
        return model

    def _encode(self, spec: ChildSpec, value: Any) -> bytes:
        limit = self._settings.payload_limit
        try:
            if spec.by_value:
                return encode_result_by_value(value, limit, "the result")
            return encode(value, limit, "the result")
        except TooLarge as error:
            raise _FaultError(ErrorInfo(Reason.TOO_LARGE, str(error))) from None
        except (CannotEncode, PayloadError) as error:
            raise _FaultError(ErrorInfo(Reason.ENCODE, str(error))) from None

    def _await(self, value: Any) -> Any:
        """Run an awaitable to its end in this child's event loop.

        The loop lives as long as the child, so that what a module keeps for its loop (connections, say) stays usable from
        one attempt to the next. Tasks that an attempt left running end with it, as under ``asyncio.run``.
        """
        if self._runner is None:
            self._runner = asyncio.Runner()
            self.loop = self._runner.get_loop()
        return self._runner.run(self._watched(value))

    async def _watched(self, value: Any) -> Any:
        self.running_task = asyncio.current_task()
        try:
            return await value
        finally:
            self.running_task = None
            rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in rest:
                task.cancel()
            if rest:
                await asyncio.gather(*rest, return_exceptions=True)


def resolve(target: str) -> Callable[..., Any]:
    """The callable of "package.module:name". Raises _FaultError with what a person needs to mend it."""
    module_name, colon, path = target.partition(":")
    if not (colon and module_name and path) or not all(
        map(str.isidentifier, [*module_name.split("."), *path.split(".")])
    ):
        raise _import_fault(f"{target!r} is no target: expected package.module:name, as in statistics:fmean")
    module = sys.modules.get(module_name)
    if module is None:
        importlib.invalidate_caches()  # the file may be younger than what the finders remember of its folder
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and (module_name == error.name or module_name.startswith(error.name + ".")):
                looked = [path for path in sys.path if path][:3]
                raise _import_fault(
                    f"there is no module {error.name!r} on this runtime; looked in {', '.join(looked)} and the installed "
                    "packages. Start the runtime in the module's folder, with --path FOLDER, or install the package there"
                ) from None
            raise _FaultError(_import_error(module_name, error)) from None
        except AttemptStopped:
            raise
        except BaseException as error:  # a module may even call sys.exit()
            raise _FaultError(_import_error(module_name, error)) from None
    found: Any = module
    for step in path.split("."):
        try:
            found = getattr(found, step)
        except AttributeError:
            where = getattr(module, "__file__", None) or "built in"
            raise _import_fault(f"module {module_name!r} ({where}) has no {path!r}") from None
    if not callable(found):
        raise _import_fault(f"{target} is a {type(found).__name__}, which cannot be called")
    return found  # type: ignore[no-any-return]


def _import_fault(text: str) -> _FaultError:
    return _FaultError(ErrorInfo(Reason.IMPORT, text))


def _import_error(module: str, error: BaseException) -> ErrorInfo:
    info = describe(error)
    text = f"importing {module!r} raised {type(error).__name__}: {info.message}"
    return ErrorInfo(Reason.IMPORT, text, info.type, info.traceback, bases=info.bases)


def describe(error: BaseException) -> ErrorInfo:
    """What a person and a program need to know of an exception."""
    kind = type(error)
    try:
        text = str(error)
    except Exception as other:
        text = f"(its text cannot be had: {type(other).__name__})"
    reason, exit_code = Reason.EXCEPTION, None
    if isinstance(error, MemoryError):
        reason = Reason.MEMORY
        text = text or "no memory was left"
    elif isinstance(error, SystemExit):
        reason = Reason.EXIT
        exit_code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        text = f"the code called sys.exit({error.code!r})"
    return ErrorInfo(
        reason,
        _shortened(text or kind.__name__, MESSAGE_CHARACTERS),
        f"{kind.__module__}.{kind.__qualname__}",
        _shortened(format_traceback(error), TRACEBACK_CHARACTERS),
        exit_code,
        None,
        _names(kind),
    )


def _names(kind: type[BaseException]) -> list[str]:
    names: list[str] = []
    for base in kind.__mro__:
        if base is not object:
            names += (base.__qualname__, f"{base.__module__}.{base.__qualname__}")
    return names


def format_traceback(error: BaseException) -> str:
    """The traceback as Python prints it, without our own frames above the user's."""
    try:
        trace = traceback.TracebackException.from_exception(error, compact=True)
        _trim(trace, set())
        return "".join(trace.format())
    except Exception as other:  # a broken __str__ or __repr__ of the user's must not end the child
        return f"(the traceback cannot be shown: {type(other).__name__})"


def _trim(trace: traceback.TracebackException, seen: set[int]) -> None:
    if id(trace) in seen:
        return
    seen.add(id(trace))
    kept = [frame for frame in trace.stack if not _is_ours(frame.filename)]
    trace.stack = traceback.StackSummary.from_list(kept)
    for other in (trace.__cause__, trace.__context__, *(getattr(trace, "exceptions", None) or ())):
        if other is not None:
            _trim(other, seen)


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OWN_FOLDER, "<frozen importlib")) or filename.endswith(_FRAMES_OF_THE_LOOP)


def _shortened(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
