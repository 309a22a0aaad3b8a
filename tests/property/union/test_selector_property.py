"""Selectors: any that can be written means what its parts mean, and any text is read or refused with a place."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypothesis import example, given
from hypothesis import strategies as st

from headway_bus.selector import WORDS, SelectorError, parse, selects

Meaning = Callable[[Mapping[str, str]], bool]
Written = tuple[str, Meaning]

names = st.sampled_from(["region", "camera", "a.b/c", "x-1"])
values = st.sampled_from(["north", "south", "", "a b", "and", "ä"])


def quoted(text: str) -> str:
    return f"'{text}'" if not text or " " in text or text in WORDS else text


@st.composite
def written_test(draw: st.DrawFn) -> Written:
    label, value, other = draw(names), draw(values), draw(values)
    several = f"({quoted(value)}, {quoted(other)})"
    forms: list[Written] = [
        ("*", lambda labels: True),
        (label, lambda labels: label in labels),
        (f"{label} exists", lambda labels: label in labels),
        (f"{label}={quoted(value)}", lambda labels: labels.get(label) == value),
        (f"{label} != {quoted(value)}", lambda labels: labels.get(label) != value),
        (f"{label} in {several}", lambda labels: labels.get(label) in (value, other)),
        (f"{label} not in{several}", lambda labels: labels.get(label) not in (value, other)),
    ]
    return draw(st.sampled_from(forms))


def both(left: Written, right: Written) -> Written:
    return f"({left[0]}) and ({right[0]})", lambda labels: left[1](labels) and right[1](labels)


def either(left: Written, right: Written) -> Written:
    return f"({left[0]}) or ({right[0]})", lambda labels: left[1](labels) or right[1](labels)


def negated(inner: Written) -> Written:
    return f"not ({inner[0]})", lambda labels: not inner[1](labels)


written = st.recursive(
    written_test(),
    lambda inner: st.one_of(st.builds(both, inner, inner), st.builds(either, inner, inner), st.builds(negated, inner)),
    max_leaves=8,
)


@given(written, st.dictionaries(names, values))
def test_a_selector_means_what_its_parts_mean(selector: Written, labels: dict[str, str]) -> None:
    text, meaning = selector
    assert selects(parse(text), "shop", labels) == meaning(labels)


@given(st.lists(written_test(), min_size=3, max_size=3), st.dictionaries(names, values))
def test_and_binds_tighter_than_or(three: list[Written], labels: dict[str, str]) -> None:
    (first, a), (second, b), (third, c) = three
    expected = a(labels) or (b(labels) and c(labels))
    assert selects(parse(f"{first} or {second} and {third}"), "shop", labels) == expected


@given(st.text(alphabet="ab=!(),'\" *inotrd", max_size=60))
@example("a in (b")
def test_any_text_is_read_or_refused_with_a_place_in_it(text: str) -> None:
    try:
        parse(text)
    except SelectorError as error:
        assert 0 <= error.position <= len(text)
