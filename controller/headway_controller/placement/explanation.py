"""Why a task is where it is, and what one that waits lacks: asked of the same books and rules that place it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headway_bus.records import Estimate, Options, Requirements
from headway_controller.placement.credit import room

if TYPE_CHECKING:
    from headway_controller.placement.book import Book, Booking
    from headway_controller.placement.catalogue import Catalogue
    from headway_controller.placement.fleet import Fleet
    from headway_controller.placement.work import Work

LISTED = 20
"""Candidates and refusals that are listed; of more, the best and how many there are."""


def of_held(book: Book, booking: Booking, running: bool) -> dict[str, Any]:
    """The story of a task that was given to a runtime."""
    story: dict[str, Any] = {
        "state": "running" if running else "committed",
        "runtime": book.name,
        "expected_seconds": booking.mean,
        "expected_error": max(booking.variance, 0.0) ** 0.5,
        "known": booking.known,
        "gpus": [[index, share] for index, share in booking.gpus],
    }
    choice = booking.choice
    if choice is None:
        story["why"] = "it was found there, planned there by a strategy, or asked for that runtime by name"
    elif choice.second is None:
        story["why"] = f"it had room, and no runtime of another kind had; expected back after {choice.end:.3g} s"
    else:
        story["why"] = (
            f"expected back after {choice.end:.3g} s; the best runtime of another kind that had room, "
            f"{choice.second.name}, after {choice.second_end:.3g} s"
        )
    return story


def of_estimate(estimate: Estimate) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in estimate.__struct_fields__}


def of_waiting(fleet: Fleet, catalogue: Catalogue, options: Options, work: Work, now: float) -> dict[str, Any]:
    """Candidates, refusals with reasons, and what is lacking."""
    candidates: list[dict[str, Any]] = []
    refused: list[dict[str, Any]] = []
    eligible: list[Book] = []
    for book in fleet.books.values():
        reasons = work.demand.refusals(book.info)
        if not reasons and not book.open(now):
            reasons = ["it drains" if book.draining else f"it is set aside: {book.set_aside_why}"]
        if reasons:
            if len(refused) < LISTED:
                refused.append({"runtime": book.name, "reasons": reasons})
            continue
        eligible.append(book)
        candidates.append(_candidate(book, work, now))
    candidates.sort(key=lambda each: float(each["completion"]))
    return {
        "state": "queued",
        "candidates": candidates[:LISTED],
        "candidate_count": len(eligible),
        "refused": refused,
        "refused_count": len(fleet.books) - len(eligible),
        "lacks": lacks(fleet, catalogue, options, work, eligible, now),
    }


def _candidate(book: Book, work: Work, now: float) -> dict[str, Any]:
    waiting, error = book.planned_drain(now)
    prediction = work.prediction
    return {
        "runtime": book.name,
        "waiting": waiting,
        "error": error,
        "run": prediction.mean / book.speed,
        "completion": max(waiting, book.delay) + prediction.mean / book.speed + book.delay,
        "room": room(book, work, now),
        "running": len(book.running),
        "committed": len(book.committed),
        "speed": book.speed,
        "delay": book.delay,
    }


def lacks(
    fleet: Fleet, catalogue: Catalogue, options: Options, work: Work, eligible: list[Book], now: float
) -> list[str]:
    """One text for each thing that keeps it from starting now, and for each change that would let it."""
    need = work.demand.need
    texts: list[str] = []
    if not fleet.books:
        return ["no runtime is connected"]
    if not eligible:
        texts.append(f"no runtime may run it: none of {len(fleet.books)} fulfils all of what it asks for")
    elif not any(book.stock.fits(need) for book in eligible):
        texts.append(f"needs {need}: {_plural(len(eligible))} could give it, all busy")
    else:
        texts.append("there is room; others go before it in the order")
    for change, changed in relaxations(options):
        demand = catalogue.demand_of(changed)
        free = [b for b in fleet.books.values() if b.open(now) and not demand.refusals(b.info)]
        if (
            any(book.stock.fits(demand.need) for book in free)
            and texts[0] != "there is room; others go before it in the order"
        ):
            texts.append(f"would start now with {change}")
    return texts


def relaxations(options: Options) -> list[tuple[str, Options]]:
    """The same options asking for a little less, one thing at a time."""
    asked = options.requirements
    less: list[tuple[str, Requirements]] = []
    if asked.runtime:
        less.append((f"any runtime instead of {asked.runtime}", msgspec.structs.replace(asked, runtime="")))
    for name in asked.labels:
        rest = {key: value for key, value in asked.labels.items() if key != name}
        less.append((f"any {name} instead of {asked.labels[name]}", msgspec.structs.replace(asked, labels=rest)))
    for part in (2, 4):
        if asked.gpu:
            gpu = asked.gpu / part
            less.append((f"gpu={gpu:g}", msgspec.structs.replace(asked, gpu=gpu)))
        if asked.memory:
            memory = asked.memory // part
            less.append((f"memory={memory}", msgspec.structs.replace(asked, memory=memory)))
        if asked.cpu:
            less.append((f"cpu={asked.cpu / part:g}", msgspec.structs.replace(asked, cpu=asked.cpu / part)))
        if asked.slots > 1.0:
            slots = max(asked.slots / part, 1.0)
            less.append((f"slots={slots:g}", msgspec.structs.replace(asked, slots=slots)))
    for name in asked.custom:
        rest_custom = {key: value for key, value in asked.custom.items() if key != name}
        less.append((f"no {name}", msgspec.structs.replace(asked, custom=rest_custom)))
    return [(text, msgspec.structs.replace(options, requirements=requirements)) for text, requirements in less]


def _plural(count: int) -> str:
    return f"{count} runtime" if count == 1 else f"{count} runtimes"
