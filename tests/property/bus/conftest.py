"""No deadlines: a shared machine may be slow for a moment, and that says nothing about the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("headway", deadline=None)
settings.load_profile("headway")
