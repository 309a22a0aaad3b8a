"""The trainer's calls over RPyC: ``conn = rpyc.connect(host, port)``, then ``conn.root.get_status(job_id)``. Extra ``rpyc``.

What a client passes is copied as plain data before it is looked at, and what it gets can be read and nothing else: no
attribute of an object here is reachable, nothing is pickled. Whoever is connected may name any file that this process can
read, so the service listens on this machine alone, or asks every client for a certificate.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway_trainer.document import AsyncResult
from headway_trainer.errors import TrainerError
from headway_trainer.jobs import Book

try:
    import rpyc
    from rpyc.utils.authenticators import SSLAuthenticator
    from rpyc.utils.server import ThreadedServer
except ModuleNotFoundError as missing:
    raise TrainerError(f"the calls over RPyC need {missing.name}: pip install 'headway[rpyc]'") from None

MOST_ITEMS = 100_000
MOST_DEPTH = 20
MOST_TEXT = 1_000_000

CONFIG = {
    "allow_all_attrs": False,
    "allow_public_attrs": False,
    "allow_getattr": True,
    "allow_setattr": False,
    "allow_delattr": False,
    "allow_pickle": False,
    "include_local_traceback": False,
    "import_custom_exceptions": False,
}


def _reader(names: frozenset[str]) -> Callable[[Any, str], Any]:
    def get(self: Any, name: str) -> Any:
        if name not in names:
            raise AttributeError(f"cannot access {name!r}")
        return getattr(self, name)

    return get


_READING = (
    "__getitem__",
    "__iter__",
    "__len__",
    "__contains__",
    "__eq__",
    "__ne__",
    "__repr__",
    "__str__",
    "__class__",
)


class PlainDict(dict[str, Any]):
    """A dict that its reader on the other side can read as one."""

    _rpyc_getattr = _reader(frozenset({*_READING, "keys", "values", "items", "get"}))


class PlainList(list[Any]):
    """The same for a list."""

    _rpyc_getattr = _reader(frozenset({*_READING, "index", "count"}))


class RemoteResult:
    """An :class:`AsyncResult` of which the other side sees its face and no more."""

    def __init__(self, result: AsyncResult) -> None:
        self._result = result

    def _rpyc_getattr(self, name: str) -> Any:
        if name == "add_callback":
            return self._add_callback
        if name not in AsyncResult.FACE:
            raise AttributeError(f"cannot access {name!r}")
        found = getattr(self._result, name)
        return readable(found) if name == "value" else found

    def _add_callback(self, function: Callable[[Any], Any]) -> None:
        """The caller's function is called over its own connection, which must be served there when the job ends."""
        self._result.add_callback(lambda _: function(self))


def plain_of(given: Any, place: str, depth: int = 0, left: list[int] | None = None) -> Any:
    """A copy, as plain data, of what a client has passed. Raises TrainerError for what is none, or is too much."""
    counter = [MOST_ITEMS] if left is None else left
    counter[0] -= 1
    if depth > MOST_DEPTH or counter[0] < 0:
        raise TrainerError(f"{place}: more than {MOST_DEPTH} levels or {MOST_ITEMS} values")
    if given is None or isinstance(given, (bool, int, float)):
        return given
    if isinstance(given, str):
        if len(given) > MOST_TEXT:
            raise TrainerError(f"{place}: a text of {len(given)} characters; at most {MOST_TEXT}")
        return given
    if isinstance(given, (dict, list, tuple)) and len(given) > counter[0]:  # each of them is a question to the client
        raise TrainerError(f"{place}: more than {MOST_ITEMS} values")
    if isinstance(given, dict):
        return {str(key): plain_of(given[key], f"{place}.{str(key)[:40]}", depth + 1, counter) for key in given}
    if isinstance(given, (list, tuple)):
        return [plain_of(one, f"{place}[{at}]", depth + 1, counter) for at, one in enumerate(given)]
    raise TrainerError(f"{place}: expected numbers, text, lists and dicts")


def readable(value: Any) -> Any:
    """A result as the other side may read it."""
    if isinstance(value, dict):
        return PlainDict({key: readable(one) for key, one in value.items()})
    if isinstance(value, (list, tuple)):
        return PlainList(readable(one) for one in value)
    return value


class SchedulerService(rpyc.Service):  # type: ignore[misc]  # rpyc has no types
    """What ``conn.root`` is. All connections share one book of jobs."""

    ALIASES = ("Scheduler",)

    def __init__(self, book: Book) -> None:
        super().__init__()
        self._book = book

    def exposed_commit_job_func(self, data_config: Any, job_config: Any, series_config: Any, model_config: Any) -> Any:
        data, job = _dict_of(data_config, "data_config"), _dict_of(job_config, "job_config")
        series, models = _dict_of(series_config, "series_config"), _dict_of(model_config, "model_config")
        return RemoteResult(self._book.commit(data, job, series, models))

    def exposed_get_result_func(self, job_id: int | str) -> Any:
        return readable(self._book.result(_id_of(job_id)))

    def exposed_push(self, job: Any) -> str:
        return self._book.push(_dict_of(job, "job"))

    def exposed_get_status(self, job_id: int | str) -> str:
        return self._book.status(_id_of(job_id))

    def exposed_get_status_or_result(self, job_id: int | str) -> Any:
        return readable(self._book.status_or_result(_id_of(job_id)))

    def exposed_cancel(self, job_id: int | str) -> None:
        self._book.cancel(_id_of(job_id))


def _dict_of(given: Any, place: str) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise TrainerError(f"{place}: expected a dict")
    found: dict[str, Any] = plain_of(given, place)
    return found


def _id_of(given: Any) -> int | str:
    if isinstance(given, bool) or not isinstance(given, (int, str)):
        raise TrainerError("job_id: expected a number or a text")
    return given


@dataclass(frozen=True)
class Certificates:
    """PEM files: the service's certificate and key, and the authority that must have signed each client's."""

    certificate: Path
    key: Path
    clients: Path


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def make_server(book: Book, host: str = "127.0.0.1", port: int = 0, certificates: Certificates | None = None) -> Any:
    """A server that listens; ``.port`` says where, ``.start()`` serves until ``.close()``.

    Raises TrainerError for an address beyond this machine without certificates.
    """
    if certificates is None and not is_loopback(host):
        raise TrainerError(
            f"{host}: the calls over RPyC are open to this machine only, unless clients show certificates "
            "(--certificate, --key, --clients)"
        )
    authenticator = None
    if certificates is not None:
        for path in (certificates.certificate, certificates.key, certificates.clients):
            if not path.is_file():
                raise TrainerError(f"{path}: there is no such file; expected certificates and a key in PEM")
        authenticator = SSLAuthenticator(
            str(certificates.key),
            str(certificates.certificate),
            ca_certs=str(certificates.clients),
            cert_reqs=ssl.CERT_REQUIRED,
        )
    server = ThreadedServer(
        SchedulerService(book), hostname=host, port=port, authenticator=authenticator, protocol_config=CONFIG
    )
    server.listener.listen(server.backlog)  # now, and not in start(): whoever is told the port may connect
    return server
