"""``python -m tests.property.fuzz.guided codec -runs=100000``: the same targets, guided by which code an input reaches (atheris).

Needs ``pip install atheris``; there are wheels for some versions of Python on Linux only, so it is not part of ``make test``.
The kept corpus is read. With a folder behind the target's name, inputs that reach something new are kept in that one.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
INSTRUMENTED = ["headway_bus", "headway_broker", "headway_controller"]


def main() -> int:
    names = sorted(folder.name for folder in CORPUS.iterdir() if folder.is_dir())
    if len(sys.argv) < 2 or sys.argv[1] not in names:
        print(f"expected one of {', '.join(names)}, then options of libFuzzer such as -runs=100000", file=sys.stderr)
        return 2
    try:
        import atheris
    except ImportError:
        print("this needs atheris: pip install atheris", file=sys.stderr)
        return 1
    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.property.fuzz.targets import targets
    name = sys.argv.pop(1)
    _, target = targets()[name]
    rng = random.Random(0)

    def one(data: bytes) -> None:
        target(data, rng)

    # libFuzzer writes to the first folder and reads from all.
    own = [each for each in sys.argv[1:] if not each.startswith("-")]
    options = [each for each in sys.argv[1:] if each.startswith("-")]
    atheris.Setup([sys.argv[0], *options, *own, *([str(CORPUS / name)] if own else [])], one)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
