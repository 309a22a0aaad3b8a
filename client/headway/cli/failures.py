"""What a failure means for the exit status, and how it is told.

0 what was asked was done · 1 it was not · 2 the command line or a setting is wrong · 3 there is no bus ·
130 interrupted by the person.
"""

from __future__ import annotations

from headway_bus.errors import ConfigError, HeadwayError, NoBus

DONE = 0
FAILED = 1
USAGE = 2
NO_BUS = 3
INTERRUPTED = 130


class CommandError(HeadwayError):
    """What was asked could not be done, and a command has said so in its own words; ``text`` may be empty."""


def status_of(error: BaseException) -> int:
    """The exit status that an error of the tree, or an interruption, stands for."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, NoBus):
        return NO_BUS
    if isinstance(error, ConfigError):
        return USAGE
    return FAILED


def told(error: HeadwayError) -> str:
    """The text for the person. Where there is no bus it ends with how to start one."""
    text = str(error)
    if isinstance(error, NoBus) and "headway up" not in text:
        return f"{text.rstrip('.')}. Start a bus with `headway up`, or name one with --bus or $HEADWAY_BUS."
    return text
