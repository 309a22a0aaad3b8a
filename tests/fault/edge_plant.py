"""A plant whose machines are edge agents behind links that can be cut."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from edge_link import Link
from fault_plant import Plant, Process, until
from fault_tasks import RUNTIME


class EdgePlant(Plant):
    """Broker, controller, and agents, each with a link and a spool of its own."""

    def __init__(self, folder: Path, heartbeat: float = 0.3) -> None:
        super().__init__(folder, heartbeat)
        self.links: dict[str, Link] = {}
        self.agents: dict[str, Process] = {}

    def start_edges(self, *names: str, slots: int = 2, **environment: str) -> None:
        self.start_broker()
        self.start_controller()
        for name in names:
            self.start_edge(name, slots, **environment)
        self.until_online(*names)

    def start_edge(self, name: str, slots: int = 2, *words: str, **environment: str) -> Process:
        """Start an agent, or start it again with the spool that it has."""
        if name not in self.links:
            self.links[name] = Link(int(self.url.rpartition(":")[2]))
        base = Path(__file__).parent
        spool = str(self.spool_of(name))
        given = ["--bus", self.links[name].url, "--name", name, "--slots", str(slots), "--spool", spool, *words]
        own = {RUNTIME: name, "HEADWAY_EDGE_HEARTBEAT": f"{self.heartbeat:g}", **environment}
        process = self.run(f"edge-{name}", "headway_edge", *given, "--path", str(base), **own)
        self.agents[name] = process
        return process

    def spool_of(self, name: str) -> Path:
        return self.folder / "spools" / name

    def left_in_spool(self, name: str) -> tuple[int, int]:
        """Attempts and reports that an agent, which has ended or not, still has on its disk."""
        with sqlite3.connect(f"file:{self.spool_of(name) / 'spool.db'}?mode=ro", uri=True) as spool:
            counts = [spool.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("attempts", "reports")]
        spool.close()
        return counts[0], counts[1]

    def until_delivered(self, *names: str) -> None:
        """Wait until nothing is left in the spools."""
        for name in names:
            until(f"the spool of {name} is empty", lambda name=name: self.left_in_spool(name) == (0, 0))  # type: ignore[misc]

    def until_state(self, name: str, state: str) -> None:
        with self.asking() as bus:
            until(
                f"{name} is {state}", lambda: state in {each.state for each in bus.runtimes() if each.info.name == name}
            )

    def said(self, name: str, event: str) -> bool:
        """Whether an agent has written such a line to its log."""
        for line in (self.folder / f"edge-{name}.log").read_text().splitlines():
            try:
                if json.loads(line).get("event") == event:
                    return True
            except ValueError:
                continue
        return False

    def close(self) -> None:
        for link in self.links.values():
            link.close()
        super().close()
