"""A training program of somebody's own: it knows argparse, and of headway only how to say a number."""

from __future__ import annotations

import argparse
import sys

import headway

parser = argparse.ArgumentParser()
parser.add_argument("--x", type=float, required=True)
parser.add_argument("--kind", choices=["a", "b"], required=True)
parser.add_argument("--print", action="store_true", dest="shall_print")
given = parser.parse_args()

loss = (given.x - 0.25) ** 2 + (given.kind == "b")
if given.x > 0.9:
    sys.exit("too much")
if given.shall_print:
    print("working …")
    print(f'{{"loss": {loss}, "note": "printed"}}')
else:
    for step in range(4):
        headway.metric("loss", loss + 1 - step / 3, step)
