"""A person at a shell: the installed ``headway`` in an environment of its own, and a bus that it starts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

HEADWAY = Path(sys.executable).with_name("headway")
PATIENCE = 60
"""Seconds after which a command hangs; nothing is asserted about how long one takes."""

WORK = '''
import sys, time
from pathlib import Path

def add(*numbers, extra=0):
    return sum(numbers) + extra

def kinds(*values, **named):
    return [type(value).__name__ for value in (*values, *named.values())]

def shout(text):
    print(text.upper())
    print("aside", file=sys.stderr)
    return text

def fail(words):
    raise ValueError(words)

def fail_until(path):
    if not Path(path).exists():
        raise ValueError("not yet")
    return "at last"

def hold(started, release):
    """Tells that it runs, prints, and goes on until it is let go."""
    print("holding")
    Path(started).touch()
    while not Path(release).exists():
        time.sleep(0.02)
    print("let go")
    return "held"
'''


@dataclass
class Done:
    """What a command printed, and its exit status."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


@dataclass
class Shell:
    """Runs commands with an environment of its own. Everything it starts carries ``mark``, so leftovers can be found."""

    home: Path
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    bus: str = ""

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADWAY_", "XDG_"))}
        temporary = self.home / "tmp"
        temporary.mkdir(exist_ok=True)
        own = {
            "HOME": str(self.home),
            "TMPDIR": str(temporary),
            "PYTHONPATH": os.pathsep.join([str(self.home), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "HEADWAY_TEST_MARK": self.mark,
        }
        return kept | own | ({"HEADWAY_BUS": self.bus} if self.bus else {})

    def start(self, *words: str | Path, **settings: Any) -> subprocess.Popen[str]:
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | settings
        command = [str(HEADWAY), *map(str, words)]
        return subprocess.Popen(command, env=self.environment, cwd=self.home, text=True, **settings)

    def __call__(self, *words: str | Path) -> Done:
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=PATIENCE)
        finally:
            process.kill()
        return Done(process.returncode, out, err)

    def ok(self, *words: str | Path) -> Done:
        """A command that must succeed."""
        done = self(*words)
        assert done.status == 0, f"headway {' '.join(map(str, words))}: {done.status}\n{done.out}\n{done.err}"
        return done

    def processes(self) -> list[psutil.Process]:
        """The living processes that carry the mark."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("HEADWAY_TEST_MARK") == self.mark and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        return found

    def end_all(self) -> None:
        """Whatever it started and still runs."""
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):  # gone with another one of them
                process.kill()

    def files(self) -> list[str]:
        """What lies in the temporary folder."""
        return sorted(path.name for path in (self.home / "tmp").iterdir())


def make_shell(home: Path) -> Shell:
    home.mkdir(parents=True, exist_ok=True)
    (home / "work.py").write_text(WORK)
    return Shell(home)


@dataclass
class Up:
    """A ``headway up`` that is ready."""

    process: subprocess.Popen[str]
    url: str
    log: Path

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE)


def start_up(shell: Shell, *words: str | Path) -> Up:
    """Start a bus on a port that is free, and wait until it says that it is ready."""
    ready, told = os.pipe()
    log = shell.home / "up.log"
    with log.open("a") as errors:
        process = shell.start(
            "up",
            "--bind",
            "tcp://127.0.0.1:*",
            "--ready-fd",
            str(told),
            *words,
            pass_fds=[told],
            stdout=errors,
            stderr=errors,
        )
    os.close(told)
    with os.fdopen(ready) as answer:
        line = answer.readline()
    assert line, f"headway up ended with {process.wait(timeout=PATIENCE)}:\n{log.read_text()}"
    return Up(process, json.loads(line)["url"], log)


def wait_for_file(path: Path) -> None:
    """Wait until another process has made the file."""
    pause = threading.Event()
    for _ in range(PATIENCE * 50):
        if path.exists():
            return
        pause.wait(0.02)
    raise AssertionError(f"nobody has made {path}")
