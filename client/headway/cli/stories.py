"""The controller's explanation of a task, which is plain nested data, as sentences.

What is known of it is put into words; whatever else it holds, now or in a later version, follows as "name: value".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headway.cli.output import NOTHING
from headway.cli.words import duration, moment, number, plain

INDENT = "  "
EMPTY: tuple[Any, ...] = (None, "", [], {})

Story = Mapping[str, Any]


def story_lines(story: Story, now: float) -> list[str]:
    """Lines for a person. ``now``: Unix seconds, for the moments that are predicted."""
    rest: dict[str, Any] = plain(story)
    lines = [_head(rest)]
    lines += [INDENT + text for text in _taken(rest, "lacks", [])]
    for name, words in (("starts", "predicted start"), ("ends", "predicted end")):
        estimate = _taken(rest, name, None)
        if isinstance(estimate, Mapping) and not lines[0].startswith("running" if name == "starts" else "\0"):
            lines.append(f"{words}: {_estimate(estimate, now)}")
    lines += _candidates(rest)
    lines += _refusals(rest)
    strategy, predictor = _taken(rest, "strategy", ""), _taken(rest, "predictor", "")
    if strategy:
        lines.append(f"placed by {strategy}" + (f", with the estimates of {predictor}" if predictor else ""))
    return lines + list(_mapping(rest, 0))


def _taken(rest: dict[str, Any], name: str, otherwise: Any) -> Any:
    value = rest.pop(name, otherwise)
    return otherwise if value is None else value


def _head(rest: dict[str, Any]) -> str:
    """ "running on vm; expected to take 1.5 s ± 0.3 s; …"."""
    parts = [str(_taken(rest, "state", "unknown"))]
    runtime = _taken(rest, "runtime", "")
    if runtime:
        parts[0] += f" on {runtime}"
    expected, error = _taken(rest, "expected_seconds", None), _taken(rest, "expected_error", 0.0)
    known = _taken(rest, "known", True)
    if expected is not None:
        parts.append(
            f"expected to take {duration(expected)} ± {duration(error)}" if known else "how long it takes is unknown"
        )
    left = _taken(rest, "seconds", 0.0)
    why = _taken(rest, "why", "")
    if why:
        parts.append(str(why))
    if left:
        parts.append(f"{duration(left)} left")
    return "; ".join(parts)


def _estimate(estimate: Story, now: float) -> str:
    if not estimate.get("known", True):
        why = estimate.get("why", "")
        return "unknown" + (f": {why}" if why else "")
    expectation, error = float(estimate.get("expectation") or 0.0), float(estimate.get("error") or 0.0)
    return f"~{moment(now + expectation, now)} ± {duration(error)} (in {duration(expectation)})"


def _candidates(rest: dict[str, Any]) -> Iterator[str]:
    found, count = _taken(rest, "candidates", []), _taken(rest, "candidate_count", 0)
    if not found:
        return
    yield f"candidates ({max(count, len(found))}), the best first:"
    for each in found:
        fields = dict(each)
        name = _taken(fields, "runtime", "?")
        texts = [f"{INDENT}{name}: done in {duration(_taken(fields, 'completion', 0.0))}"]
        texts.append(
            f"waiting {duration(_taken(fields, 'waiting', 0.0))} ± {duration(_taken(fields, 'error', 0.0))}"
            f" and running {duration(_taken(fields, 'run', 0.0))}"
        )
        if fields:
            texts.append(_inline(fields))
        yield "; ".join(texts)


def _refusals(rest: dict[str, Any]) -> Iterator[str]:
    found, count = _taken(rest, "refused", []), _taken(rest, "refused_count", 0)
    if not found:
        return
    yield f"not considered ({max(count, len(found))}):"
    for each in found:
        yield f"{INDENT}{each.get('runtime', '?')}: {'; '.join(map(str, each.get('reasons', ())))}"


def _mapping(data: Story, depth: int) -> Iterator[str]:
    for name, value in data.items():
        title = INDENT * depth + name.replace("_", " ")
        if value in EMPTY:
            continue
        if isinstance(value, Mapping):
            yield f"{title}:"
            yield from _mapping(value, depth + 1)
        elif isinstance(value, list):
            yield f"{title}:"
            for item in value:
                yield INDENT * (depth + 1) + "- " + _any(item)
        else:
            yield f"{title}: {_scalar(value)}"


def _any(item: Any) -> str:
    if isinstance(item, Mapping):
        return _inline(item)
    return _inline_list(item) if isinstance(item, list) else _scalar(item)


def _inline(item: Story) -> str:
    parts = []
    for name, value in item.items():
        if value not in EMPTY:
            text = f"({_inline(value)})" if isinstance(value, Mapping) else _any(value)
            parts.append(f"{name.replace('_', ' ')} {text}")
    return ", ".join(parts) or NOTHING


def _inline_list(items: Sequence[Any]) -> str:
    return "; ".join(_any(item) for item in items)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(round(value, 4)) if isinstance(value, float) else str(value)
