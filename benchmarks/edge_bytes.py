"""What an edge costs on a link that is paid by the byte: ``python -m benchmarks.edge_bytes [--idle SECONDS] [--tasks N]``.

Bytes are counted by the TCP link of the fault tests, which a real agent speaks through: what ZeroMQ sends, without the headers
of TCP and IP (40 bytes a packet; the pieces are counted, too).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

# The plant and the link are the tests' own.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "fault"))

from edge_plant import EdgePlant
from fault_plant import until

HOUR = 3600.0


def idle(plant: EdgePlant, name: str, seconds: float) -> tuple[float, float, float]:
    """Bytes up, bytes down and pieces up in an hour, measured over ``seconds``."""
    link = plant.links[name]
    up, down, pieces = link.bytes_up, link.bytes_down, link.pieces_up
    time.sleep(seconds)
    scale = HOUR / seconds
    return (link.bytes_up - up) * scale, (link.bytes_down - down) * scale, (link.pieces_up - pieces) * scale


def tasks(plant: EdgePlant, name: str, line: str, count: int) -> tuple[float, float]:
    """Bytes up and down for each of ``count`` commands, submitted together."""
    link = plant.links[name]
    bus = plant.client()
    up, down = link.bytes_up, link.bytes_down
    given = [bus.options(runtime=name, offline=600.0).command(line) for _ in range(count)]
    for task in given:
        task.result(120)
    until("all is confirmed", lambda: plant.left_in_spool(name) == (0, 0))
    return (link.bytes_up - up) / count, (link.bytes_down - down) / count


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--idle", type=float, default=60.0)
    parser.add_argument("--tasks", type=int, default=100)
    given = parser.parse_args()
    print(
        "| heartbeat | compressed | idle hour, up | down | packets up | a task: up | down | a task of 100 lines: up |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for heartbeat in (2.0, 10.0, 30.0):
        for above in (0, 512):
            with tempfile.TemporaryDirectory(prefix="headway-edge-bytes-") as folder:
                plant = EdgePlant(Path(folder), heartbeat=2.0)
                try:
                    plant.start_broker()
                    plant.start_controller()
                    environment = {
                        "HEADWAY_EDGE_HEARTBEAT": f"{heartbeat:g}",
                        "HEADWAY_EDGE_COMPRESS_ABOVE": str(above),
                    }
                    plant.start_edge("shop", 2, **environment)
                    plant.until_online("shop")
                    small = tasks(plant, "shop", "true", given.tasks)
                    loud = tasks(
                        plant, "shop", "for i in $(seq 100); do echo line $i of the log; done", given.tasks // 4
                    )
                    up, down, pieces = idle(plant, "shop", given.idle)
                finally:
                    plant.close()
            print(
                f"| {heartbeat:g} s | {'zstd' if above else 'no'} | {up / 1024:.1f} KiB | {down / 1024:.1f} KiB "
                f"| {pieces:.0f} "
                f"| {small[0]:.0f} B | {small[1]:.0f} B | {loud[0]:.0f} B |",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
