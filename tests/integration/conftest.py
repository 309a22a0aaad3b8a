"""Beside this file lies what several folders of integration tests use: ``plain_peers``."""
