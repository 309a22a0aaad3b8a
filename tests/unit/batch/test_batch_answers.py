"""H-A7: the five calls, with the documented bodies and true status codes; and who is let in."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import Iterator
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette", reason="the calls over HTTP need starlette and uvicorn: pip install 'headway[http]'")
pytest.importorskip("uvicorn", reason="the calls over HTTP need starlette and uvicorn: pip install 'headway[http]'")

from starlette.applications import Starlette
from starlette.routing import Mount

from headway import hyperctl
from headway.batch.answers import Answer, Answers
from headway.batch.application import application
from headway.batch.config import Server, load
from headway.batch.errors import BatchFileError
from headway.batch.folder import BatchFolder
from headway.batch.server import Portal, serving
from headway_bus.errors import HeadwayError

RUNNING = "long / one"
LISTED = {"params": {"a": 1}, "resource": {"cpu": 0.0, "ram": 0, "gpu": 0.0}, "assets": []}


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    """The server of a batch of two jobs, one of which runs until it is killed."""
    jobs = [
        {"name": RUNNING, "params": {"a": 1}, "command": "sleep 40"},
        {"name": "x", "params": {"a": 1}, "command": "true"},
    ]
    loaded = load({"name": "b", "jobs": jobs}, "f", tmp_path)
    folder = BatchFolder(tmp_path)
    descriptor = folder.lock()
    assert descriptor is not None
    mark = folder.job_path(RUNNING).with_name(folder.job_path(RUNNING).name + ".running")
    mark.touch()

    def kill(name: str) -> bool:
        mark.unlink()
        return name == RUNNING

    with serving(Server(port=0), "f", Answers(loaded, folder, kill).answer) as found:
        yield found


def call(portal: Portal, method: str, path: str, **headers: str) -> tuple[int, Any]:
    connection = HTTPConnection(portal.url.removeprefix("http://"), timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, json.loads(text) if text.startswith("{") else text


def test_h_a7_the_calls_and_their_bodies(portal: Portal, tmp_path: Path) -> None:
    one = {"name": "x", **LISTED, "working_dir": str(tmp_path / "x"), "status": "init"}
    assert call(portal, "GET", "/hyperctl") == (200, "Welcome to hyperctl.")
    status, listed = call(portal, "GET", "/hyperctl/api/job")
    assert (status, listed["code"]) == (200, 0)
    assert [(job["name"], job["status"]) for job in listed["data"]["jobs"]] == [(RUNNING, "running"), ("x", "init")]
    assert call(portal, "GET", "/hyperctl/api/job/x") == (200, {"code": 0, "data": one})
    missing = {"code": -1, "data": {"msg": "resource not found"}}
    assert call(portal, "GET", "/hyperctl/api/job/y") == (404, missing)
    assert call(portal, "GET", "/elsewhere") == (404, missing)
    assert call(portal, "POST", "/hyperctl/api/job/x/kill") == (
        409,
        {"code": -1, "data": "job x in not in running status but is init "},
    )
    assert call(portal, "POST", "/hyperctl/api/job/y/kill") == (404, {"code": -1, "data": "job y does not exists "})
    assert call(portal, "POST", "/hyperctl/api/job/x/fly") == (404, {"code": -1, "data": "unknown operation fly "})
    wrong = {"code": -1, "data": "HTTP 405: Method Not Allowed"}
    for method, path in (("POST", "/hyperctl"), ("DELETE", "/hyperctl/api/job"), ("GET", "/hyperctl/api/job/x/kill")):
        assert call(portal, method, path) == (405, wrong)


def test_h_48_the_calls_from_python(portal: Portal) -> None:
    assert hyperctl.get_job("x", portal.url)["status"] == "init"
    assert [job["name"] for job in hyperctl.list_jobs(portal.url)] == [RUNNING, "x"]
    assert hyperctl.kill_job(portal.url, RUNNING) == {"msg": f"{RUNNING} killed"}
    with pytest.raises(HeadwayError, match="not in running status"):
        hyperctl.kill_job(portal.url, RUNNING)
    with pytest.raises(HeadwayError, match="no server is known"):
        hyperctl.list_jobs("file:///etc/passwd")


def test_h_w12_pages_of_other_sites_are_not_answered(portal: Portal) -> None:
    assert call(portal, "POST", "/hyperctl/api/job/x/kill", Origin="http://evil.example")[0] == 403
    assert call(portal, "GET", "/hyperctl/api/job", Host="evil.example")[0] == 403


def test_h_w12_beyond_loopback_there_is_a_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any address would do; loopback is declared to be none, so that nothing listens where others can see it."""
    monkeypatch.setattr("ipaddress.IPv4Address.is_loopback", property(lambda self: False))
    loaded = load({"name": "b", "jobs": [{"name": "x", "command": "true"}]}, "f", tmp_path)
    answers = Answers(loaded, BatchFolder(tmp_path), lambda name: False)
    with serving(Server(host="127.0.0.1", port=0), "f", answers.answer) as portal:
        assert len(portal.token) > 20
        assert call(portal, "GET", "/hyperctl")[0] == 401
        assert call(portal, "GET", "/hyperctl", Authorization=f"Bearer {portal.token}")[0] == 200


def test_h_w15_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                BatchFileError, match=rf"server: cannot listen at 127\.0\.0\.1, port {port}: Address already in use"
            ),
            serving(Server(host="127.0.0.1", port=port), "f", lambda method, path: None),  # type: ignore[arg-type,return-value]
        ):
            raise AssertionError("it listens where another does")


def test_another_application_can_mount_the_calls() -> None:
    """Spoken to as a server does, with a slash in a job's name, below a path of its own."""
    heard: list[tuple[str, str]] = []

    def answer(method: str, path: str) -> Answer:
        heard.append((method, path))
        return Answer(HTTPStatus.CONFLICT, {"code": -1, "data": "a ü"})

    outer = Starlette(routes=[Mount("/batches/b", application(answer))])
    raw = b"/batches/b/hyperctl/api/job/f%2F2/kill"
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/batches/b/hyperctl/api/job/f/2/kill", "raw_path": raw, "root_path": "", "query_string": b"",
        "headers": [(b"host", b"localhost:80")], "server": ("localhost", 80), "client": ("127.0.0.1", 1),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(outer(scope, receive, send))
    assert heard == [("POST", "/hyperctl/api/job/f%2F2/kill")]
    assert sent[0]["status"] == 409
    assert json.loads(sent[1]["body"]) == {"code": -1, "data": "a ü"}


def test_without_the_packages_it_is_said_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with (
        pytest.raises(BatchFileError, match=r"pip install 'headway\[http\]'"),
        serving(Server(port=0), "f", answer_never),
    ):
        raise AssertionError("it serves with nothing")


def answer_never(method: str, path: str) -> Answer:
    raise AssertionError("nobody is to be answered")
