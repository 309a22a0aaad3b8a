"""Search the parameters of objective.py on a bus: ``python run_search.py [URL]``; without a bus it starts one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import headway
import headway_trainer

SPACE = {
    "rate": {"low": 0.001, "high": 0.5, "log": True},
    "degree": {"low": 1, "high": 5},
}


async def main(url: str) -> None:
    async with headway.connect(url) as bus:
        study = await headway_trainer.search(bus, "objective:train", SPACE, trials=16, parallel=4, engine="random")
    best = study.best
    assert best is not None, "every trial failed"
    print(f"{len(study.trials)} trials; best: degree {best.values['degree']}, rate {best.values['rate']:.3g}")
    print(f"loss {best.loss:.4f}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        asyncio.run(main(sys.argv[1]))
    else:
        with headway.local(path=[Path(__file__).parent]) as bus:
            asyncio.run(main(bus.url))
