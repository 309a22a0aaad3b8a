"""The program on a machine of a batch. It is sent through the SSH connection, so it imports the standard library only.

It makes one folder and does everything in it; when the connection ends, for whatever reason, it ends the runtime with all its
jobs and removes the folder. Frames come on standard input and go to standard output: four bytes of length, a JSON object, and
as many bytes behind it as its ``size`` says. A folder here::

    lib/, site/         headway's own code; packages that were missing here
    bus                 the socket that leads to the bus
    wants, gates/JOB    how a job says that it is about to start, and waits until its files are there
    jobs/JOB/           its folder
    assets/NUMBER/      assets, once each
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import platform
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

LOOK = 0.25
"""Seconds between looks at what the jobs have written."""

SILENCE = 60.0
"""Seconds without a word from the other side after which it is taken for dead."""

END_PATIENCE = 10.0
"""Seconds between TERM and KILL of the runtime."""

LOST_PATIENCE = 2.0
"""The same where nobody is there any more whom it could tell anything."""

READ_BYTES = 256 * 1024
LENGTH_BYTES = 4
STREAMS = ("stdout", "stderr")
OURS = frozenset({*STREAMS, "run.sh", "params.json", "resources"})
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36

START = """\
# A job begins here: it says so, waits until its files are there, and becomes its run.sh.
mkfifo "$HEADWAY_BATCH_ROOT/gates/$HEADWAY_BATCH_JOB" 2>/dev/null
exec 9<>"$HEADWAY_BATCH_ROOT/gates/$HEADWAY_BATCH_JOB"
printf '%s\\n' "$HEADWAY_BATCH_JOB" >"$HEADWAY_BATCH_ROOT/wants"
IFS= read -r headway_answer <&9
exec 9<&-
if [ "$headway_answer" != ready ]; then
    printf '%s\\n' "$headway_answer" >&2
    exit 1
fi
export PYTHONPATH="${HEADWAY_BATCH_PYTHONPATH:+$HEADWAY_BATCH_PYTHONPATH:}$HEADWAY_BATCH_ROOT/lib"
. "$HEADWAY_BATCH_ROOT/jobs/$HEADWAY_BATCH_JOB/run.sh"
"""


def process_control(option: int, value: int) -> None:
    """Linux's prctl; elsewhere nothing, and less is cleaned up after a violent death."""
    try:
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (OSError, AttributeError):
        return


def with_parent() -> None:
    process_control(PR_SET_PDEATHSIG, signal.SIGTERM)


LONGEST_ROOT = 103
"""Bytes of the folder's path, so that the path of the socket in it is at most 107: the system takes no more."""


class Helper:
    """What is there, and what has been sent of it."""

    def __init__(self, needed: list[str], temporary: str) -> None:
        self.root = tempfile.mkdtemp(prefix="headway-batch-", dir=Path(temporary).expanduser() if temporary else None)
        if len(os.fsencode(self.root)) > LONGEST_ROOT and not temporary:
            Path(self.root).rmdir()
            self.root = tempfile.mkdtemp(prefix="headway-batch-", dir="/tmp")
        self.runtime: subprocess.Popen[bytes] | None = None
        self.active: dict[str, dict[str, int]] = {}
        self.leaving = False
        self.is_lost = False
        self.heard = time.monotonic()
        self.buffer = bytearray()
        for name in ("jobs", "gates", "assets"):
            self.path(name).mkdir()
        self.path("start.sh").write_text(START)
        self.path("config.toml").touch()
        os.mkfifo(self.path("wants"), 0o600)
        self.wants = os.open(self.path("wants"), os.O_RDWR | os.O_NONBLOCK)
        self.send(
            "hello",
            root=self.root,
            host=socket.gethostname(),
            python=list(sys.version_info[:3]),
            abi=str(sysconfig.get_config_var("SOABI")),
            system=[platform.system(), platform.machine(), *platform.libc_ver()],
            missing=[name for name in needed if importlib.util.find_spec(name) is None],
        )

    def path(self, *names: str) -> Path:
        return Path(self.root, *names)

    def send(self, op: str, body: bytes = b"", **fields: Any) -> None:
        header = json.dumps({"op": op, "size": len(body), **fields}).encode()
        data = memoryview(len(header).to_bytes(LENGTH_BYTES, "big") + header + body)
        while data:
            data = data[os.write(1, data) :]

    def serve(self) -> None:
        looked = 0.0
        while not self.leaving:
            readable, _, _ = select.select([0, self.wants], [], [], LOOK)
            if 0 in readable:
                self.read()
            elif time.monotonic() - self.heard > SILENCE:
                # Only where nothing waits to be read: what was long is perhaps the work that the last word asked for.
                self.is_lost = True
                return
            if self.wants in readable:
                for job in os.read(self.wants, READ_BYTES).decode("utf-8", "surrogateescape").splitlines():
                    self.on_want(job)
            if time.monotonic() - looked >= LOOK:
                looked = time.monotonic()
                for job in list(self.active):
                    self.send_growth(job)
            if self.runtime is not None and self.runtime.poll() is not None:
                text = self.path("runtime.log").read_bytes()[-2000:].decode("utf-8", "replace")
                self.send("ended", status=self.runtime.returncode, text=text)
                return

    def read(self) -> None:
        data = os.read(0, READ_BYTES)
        if not data:
            self.leaving = self.is_lost = True
            return
        self.heard = time.monotonic()
        self.buffer += data
        while len(self.buffer) >= LENGTH_BYTES:
            body_at = LENGTH_BYTES + int.from_bytes(self.buffer[:LENGTH_BYTES], "big")
            if len(self.buffer) < body_at:
                return
            header = json.loads(self.buffer[LENGTH_BYTES:body_at])
            end = body_at + header["size"]
            if len(self.buffer) < end:
                return
            body = bytes(self.buffer[body_at:end])
            del self.buffer[:end]
            getattr(self, "on_" + header["op"])(header, body)

    # ------------------------------------------------------------------------------------------------ what comes

    def on_alive(self, header: dict[str, Any], body: bytes) -> None:
        pass

    def on_leave(self, header: dict[str, Any], body: bytes) -> None:
        self.leaving = True

    def on_put(self, header: dict[str, Any], body: bytes) -> None:
        """A part of a file, in order."""
        path = self.path(header["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(body)

    def on_unpack(self, header: dict[str, Any], body: bytes) -> None:
        """A tar file that was put becomes a folder."""
        path = self.path(header["path"])
        with tarfile.open(path) as tar:
            if hasattr(tarfile, "fully_trusted_filter"):
                tar.extraction_filter = staticmethod(tarfile.fully_trusted_filter)
            tar.extractall(self.path(header["into"]))
        path.unlink()

    def on_start(self, header: dict[str, Any], body: bytes) -> None:
        """Start the runtime."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        paths = [self.path("lib"), self.path("site")]
        environment["HEADWAY_BATCH_PYTHONPATH"] = environment.get("PYTHONPATH", "")
        environment["PYTHONPATH"] = os.pathsep.join(map(str, paths))
        environment["HEADWAY_BATCH_ROOT"] = self.root
        environment["TMPDIR"] = str(self.path("tmp"))
        self.path("tmp").mkdir()
        with self.path("runtime.log").open("wb") as log:
            self.runtime = subprocess.Popen(
                [sys.executable, "-m", "headway_runtime", *header["arguments"]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**environment, **header["environment"]},
                cwd=Path.home(),
                preexec_fn=with_parent,  # noqa: PLW1509 (there is one thread)
            )
        self.send("started", pid=self.runtime.pid)

    def on_ready(self, header: dict[str, Any], body: bytes) -> None:
        """The job's files have been put: give it its assets and let it begin."""
        job, error = header["job"], header.get("error", "")
        try:
            for where, name in header["assets"]:
                self.copy(self.path("assets", where, name), self.path("jobs", job, "resources", name))
        except (OSError, shutil.Error) as problem:
            error = error or f"its assets cannot be copied there: {problem}"
        if not error:
            self.active[job] = dict.fromkeys(STREAMS, 0)
        try:
            gate = os.open(self.path("gates", job), os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return  # it was killed while it waited
        os.write(gate, f"{' '.join(error.split()) or 'ready'}\n".encode())
        os.close(gate)

    def copy(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target)

    def on_finish(self, header: dict[str, Any], body: bytes) -> None:
        """The job is over: send what it has left, and forget it."""
        job = header["job"]
        if job in self.active:
            self.send_growth(job, all_of_it=True)
        self.active.pop(job, None)
        skipped = self.send_files(job)
        shutil.rmtree(self.path("jobs", job), ignore_errors=True)
        self.send("finished", job=job, skipped=skipped)

    # ------------------------------------------------------------------------------------------------ what goes

    def on_want(self, job: str) -> None:
        """A job is about to start. An earlier attempt of it may have left something."""
        self.active.pop(job, None)
        shutil.rmtree(self.path("jobs", job), ignore_errors=True)
        self.send("want", job=job)

    def send_growth(self, job: str, all_of_it: bool = False) -> None:
        """What its standard output and error have more than was sent."""
        for name in STREAMS:
            sent = self.active[job][name]
            try:
                with self.path("jobs", job, name).open("rb") as file:
                    if os.fstat(file.fileno()).st_size < sent:
                        sent = 0
                    file.seek(sent)
                    while data := file.read(READ_BYTES):
                        self.send("data", data, job=job, path=name, offset=sent)
                        sent += len(data)
                        if not all_of_it:
                            break
            except FileNotFoundError:
                continue
            self.active[job][name] = sent

    def send_files(self, job: str) -> list[str]:
        """What else lies in its folder; returns what is neither a file nor a folder, and stays."""
        top, skipped = self.path("jobs", job), []
        for where, folders, files in os.walk(top):
            if where == str(top):
                folders[:] = [name for name in folders if name not in OURS]
                files[:] = [name for name in files if name not in OURS]
            for name in [*folders, *files]:
                source = Path(where, name)
                inner, mode = str(source.relative_to(top)), source.lstat().st_mode
                if stat.S_ISDIR(mode):
                    self.send("folder", job=job, path=inner)
                elif stat.S_ISREG(mode):
                    self.send_file(job, source, inner, stat.S_IMODE(mode))
                else:
                    skipped.append(inner)
        return skipped

    def send_file(self, job: str, source: Path, path: str, mode: int) -> None:
        offset = 0
        with source.open("rb") as file:
            while True:
                data = file.read(READ_BYTES)
                if data or not offset:
                    self.send("data", data, job=job, path=path, offset=offset, mode=mode)
                offset += len(data)
                if not data:
                    return

    # ------------------------------------------------------------------------------------------------ the end

    def end(self) -> None:
        """No process and no file of the batch is left here when this returns."""
        runtime = self.runtime
        if runtime is not None and runtime.poll() is None:
            runtime.terminate()
            try:
                runtime.wait(LOST_PATIENCE if self.is_lost else END_PATIENCE)
            except subprocess.TimeoutExpired:
                runtime.kill()
                runtime.wait()
        deadline = time.monotonic() + END_PATIENCE
        try:
            while time.monotonic() < deadline:  # the runtime's own processes have become ours, and are on their way out
                if os.waitpid(-1, os.WNOHANG)[0] == 0:
                    time.sleep(0.02)
        except ChildProcessError:
            pass
        shutil.rmtree(self.root, ignore_errors=True)


def interrupt(number: int, frame: Any) -> None:
    raise SystemExit(1)


def main(needed: list[str], temporary: str) -> None:
    """Serve the other end of standard input until it goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, interrupt)
    process_control(PR_SET_CHILD_SUBREAPER, 1)
    helper = Helper(needed, temporary)
    try:
        helper.serve()
    except BrokenPipeError:
        helper.is_lost = True
    finally:
        for number in (signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        helper.end()
