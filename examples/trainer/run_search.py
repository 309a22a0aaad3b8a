"""Search the parameters of objective.py on a bus: ``python run_search.py [URL] [--script]``; without a bus it starts one.

``--script``: run it as a program, uploaded with each search, where runtimes cannot import it.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import headway
import headway_trainer

HERE = Path(__file__).parent
SPACE = {
    "rate": {"low": 0.001, "high": 0.5, "log": True},
    "degree": {"low": 1, "high": 5},
}


async def main(url: str, as_script: bool) -> None:
    objective = headway_trainer.Script(HERE / "objective.py") if as_script else "objective:train"
    async with headway.connect(url) as bus:
        study = await headway_trainer.search(
            bus, objective, SPACE, trials=16, parallel=4, engine="random", pruning="median"
        )
    best = study.best
    assert best is not None, "every trial failed"
    pruned = sum(trial.status == "pruned" for trial in study.trials)
    print(
        f"{len(study.trials)} trials, {pruned} pruned; best: degree {best.values['degree']}, rate {best.values['rate']:.3g}"
    )
    print(f"loss {best.loss:.4f}")


if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--script"]
    as_script = "--script" in sys.argv
    if words:
        asyncio.run(main(words[0], as_script))
    else:
        with headway.local(path=[HERE]) as bus:
            asyncio.run(main(bus.url, as_script))
