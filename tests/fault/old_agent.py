"""An edge agent of a version that no broker speaks any more."""

from __future__ import annotations

from headway_bus import messages

messages.PROTOCOL_VERSION = 0  # before those that say hello are imported

if __name__ == "__main__":
    from headway_edge.__main__ import command

    command(prog_name="headway edge")
