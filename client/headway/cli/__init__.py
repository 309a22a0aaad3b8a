"""The command line. Every verb is a module of its own that is imported when the verb is typed, and not before.

``headway --help`` and completion are used far more often than any verb, so this package imports click and nothing
heavier; rich comes in where a table is drawn on a terminal, the client where a bus is spoken to.
"""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def main() -> NoReturn:
    """The console script: runs what the command line says and leaves with its exit status."""
    from headway.cli.app import run

    status = run(sys.argv[1:])
    gc.freeze()  # the interpreter looks through all that is left before it drops it: 20 ms
    sys.exit(status)
