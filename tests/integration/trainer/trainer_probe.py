"""Runs a trial in a fresh interpreter and says which heavy modules it has loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

PROGRAM = """
import json, sys
from headway_trainer.running.trial import run_trial
run_trial(*json.loads(sys.argv[1]))
print(json.dumps([name for name in ("pandas", "hyperopt", "scipy", "zmq") if name in sys.modules]))
"""


def loaded_after_trial(*call: Any) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, json.dumps(call)], capture_output=True, text=True, check=True)
    found: list[str] = json.loads(ran.stdout)
    return found
