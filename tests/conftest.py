"""What holds for all tests: nothing of this machine's own settings reaches them."""

from __future__ import annotations

import os

# At import, before any module or session fixture starts a process that would inherit them.
for _name in [name for name in os.environ if name.startswith("HEADWAY_")]:
    del os.environ[_name]
