"""What can go wrong with a batch, beside what can go wrong with a bus."""

from __future__ import annotations

from headway_bus.errors import ConfigError, HeadwayError


class BatchFileError(ConfigError):
    """A batch file or template is wrong. The text names the file, the place in it, and what was expected."""


class BatchError(HeadwayError):
    """A batch cannot be run, found or changed."""


class BatchBusy(BatchError):
    """Another process runs this batch; the text says which."""
