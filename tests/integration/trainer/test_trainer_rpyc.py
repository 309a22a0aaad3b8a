"""The older document's calls over RPyC: a real server, real connections."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trainer_document import KEY, configs

import headway
from headway_trainer.errors import TrainerError
from headway_trainer.jobs import Book

rpyc = pytest.importorskip("rpyc", reason="pip install 'headway[rpyc]'")


@pytest.fixture(scope="module")
def book() -> Iterator[Book]:
    with headway.local(slots=1) as bus:
        yield Book(bus.url)


def serving(book: Book, **options: Any) -> Any:
    from headway_trainer.rpyc_service import make_server

    server = make_server(book, **options)
    threading.Thread(target=server.start, daemon=True).start()
    return server


@pytest.fixture
def conn(book: Book) -> Iterator[Any]:
    server = serving(book)
    connection = rpyc.connect("127.0.0.1", server.port)
    yield connection
    connection.close()
    server.close()


def until_result(conn: Any, job_id: int | str) -> Any:
    deadline = time.monotonic() + 60
    while isinstance(found := conn.root.get_status_or_result(job_id), str):
        assert found in ("pending", "running") and time.monotonic() < deadline
        time.sleep(0.01)
    return found


def test_the_documents_calls(conn: Any) -> None:
    job = {name.removesuffix("_config"): part for name, part in configs(1).items()}
    assert conn.root.push(job) == "1"
    assert conn.root.get_status("1") in ("pending", "running", "succeeded")
    found = until_result(conn, "1")
    assert found[KEY]["model_params"]["value"] == 1 and list(found.keys()) == [KEY]
    assert conn.root.get_result_func(1)[KEY]["model_performance"][0]["metrics"]["mse"] == pytest.approx(8.6)
    assert conn.root.get_status(1) == "succeeded" and conn.root.cancel(1) is None
    with pytest.raises(Exception, match="job 'nine' was not committed"):
        conn.root.get_status("nine")
    with pytest.raises(Exception, match="push: job is None"):
        conn.root.push({"data": {"path": "x"}, "model": {}})


def test_a_handle_calls_back(conn: Any) -> None:
    job = configs(2)
    called = threading.Event()
    result = conn.root.commit_job_func(*job.values())
    result.add_callback(lambda one: called.set() if one.ready else None)
    serving_here = rpyc.BgServingThread(conn)
    assert called.wait(60)
    serving_here.stop()
    assert result.ready and not result.error and not result.expired
    assert result.value[KEY]["model_params"]["value"] == 1
    result.set_expiry(1.0)
    result.wait()


def test_nothing_else_is_reachable(conn: Any) -> None:
    """A peer that speaks the protocol itself gets no further than the calls."""
    for reach in (
        lambda: conn.root._book,
        lambda: conn.root.get_result_func.__globals__,
        lambda: conn.root.exposed_push.__func__.__globals__,
        lambda: conn.root.commit_job_func(*configs(3).values())._result,
        lambda: conn.root.push.__self__,
    ):
        with pytest.raises(AttributeError):
            reach()
    endless: list[Any] = []
    endless.append(endless)
    for bad in (endless, {"data": object()}, [0] * 200_000):
        with pytest.raises(Exception, match=r"expected|more than"):
            conn.root.push({"data": bad} if isinstance(bad, list) else bad)
    with pytest.raises(Exception, match="expected a number or a text"):
        conn.root.get_status(3.5)


def test_beyond_this_machine_only_with_certificates(book: Book, tmp_path: Path) -> None:
    from headway_trainer.rpyc_service import Certificates, make_server

    for host in ("0.0.0.0", "192.0.2.1", "example.org", "::"):
        with pytest.raises(TrainerError, match="open to this machine only"):
            make_server(book, host)
    missing = Certificates(tmp_path / "a", tmp_path / "b", tmp_path / "c")
    with pytest.raises(TrainerError, match="there is no such file"):
        make_server(book, "0.0.0.0", certificates=missing)


def made_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name}"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True
    )
    return key, certificate


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")
def test_with_certificates_only_those_who_show_one_come_in(book: Book, tmp_path: Path) -> None:
    from headway_trainer.rpyc_service import Certificates

    key, certificate = made_certificate(tmp_path, "service")
    own_key, own = made_certificate(tmp_path, "client")
    other_key, other = made_certificate(tmp_path, "stranger")
    server = serving(book, certificates=Certificates(certificate, key, own))
    try:
        trusted = {"ca_certs": str(certificate)}
        conn = rpyc.ssl_connect("127.0.0.1", server.port, keyfile=str(own_key), certfile=str(own), **trusted)
        with pytest.raises(Exception, match="was not committed"):
            conn.root.get_status("nothing")
        conn.close()
        for connect in (
            lambda: rpyc.ssl_connect("127.0.0.1", server.port, keyfile=str(other_key), certfile=str(other), **trusted),
            lambda: rpyc.connect("127.0.0.1", server.port),
        ):
            with pytest.raises((OSError, EOFError)):
                connect().root.get_status("nothing")
    finally:
        server.close()


def test_the_command_serves(book: Book) -> None:
    command = [sys.executable, "-m", "headway", "--bus", str(book.url), "study", "serve", "--bind", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = re.fullmatch(r"serving on 127.0.0.1:(\d+)\n", process.stdout.readline())
        assert port is not None
        conn = rpyc.connect("127.0.0.1", int(port[1]))
        conn.root.commit_job_func(*configs("cli").values()).wait()
        assert conn.root.get_status("cli") == "succeeded"
        conn.close()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout and process.stdout.close()
