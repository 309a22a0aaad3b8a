"""A user's module that cannot be imported."""

from __future__ import annotations

import a_package_that_is_not_there  # type: ignore[import-not-found]

never = a_package_that_is_not_there


def f() -> None:
    """Never reached."""
