"""The edge agent's shell: the runtime's, and the spool. The only file of the agent that owns files and the connection."""

from __future__ import annotations

from headway_runtime.service import RuntimeService


class EdgeService(RuntimeService):
    """One edge agent. ``await run()`` inside a loop; ``leave()`` from a signal handler ends it in good order."""
