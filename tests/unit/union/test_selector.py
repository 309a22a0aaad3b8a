"""The language of selectors: what it means, and where it says that a text is wrong."""

from __future__ import annotations

import pytest

from headway_bus.selector import MAX_CHARACTERS, MAX_NESTING, SelectorError, parse, selects

LABELS = {"region": "north", "camera": "yes", "model": "old", "in": "door", "a b": "c d"}


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "region=north",
        "region = 'north' and camera",
        "camera exists",
        "not lidar",
        "lidar != yes",
        "region!=south",
        "region in (north, south)",
        "region not in (south)",
        "lidar not in (yes)",
        "name=shop-17",
        "'in'=door",
        '"a b" = "c d"',
        "lidar and camera or region=north",
        "region=north or lidar and camera",
        "not (region=south or lidar)",
        "not not camera",
        "((camera))",
    ],
)
def test_what_matches(text: str) -> None:
    assert selects(parse(text), "shop-17", LABELS)


@pytest.mark.parametrize(
    "text",
    [
        "region=south",
        "lidar",
        "lidar exists",
        "not camera",
        "lidar = yes",
        "lidar in (yes)",
        "region not in (north, south)",
        "camera and (region=south or lidar)",
        "Camera",
        "name=shop-1",
    ],
)
def test_what_does_not_match(text: str) -> None:
    assert not selects(parse(text), "shop-17", LABELS)


def test_the_name_is_the_runtimes_whatever_its_labels_say() -> None:
    assert selects(parse("name=shop-17"), "shop-17", {"name": "somebody else"})


@pytest.mark.parametrize(
    ("text", "position", "problem"),
    [
        ("", 0, "nothing is selected"),
        ("   ", 0, "nothing is selected"),
        ("region=", 7, "expected a value, found the end"),
        ("region==north", 7, "expected a value"),
        ("region=north camera", 13, "expected 'and', 'or' or the end"),
        ("region=north and", 16, "expected a label"),
        ("region in north", 10, "expected '('"),
        ("region in (north", 16, "expected ')'"),
        ("region in (north,)", 17, "expected a value"),
        ("region not north", 11, "expected 'in'"),
        ("(camera", 7, "expected ')'"),
        ("camera)", 6, "expected 'and', 'or' or the end"),
        ("and=1", 0, "put it between quotes"),
        ("region='north", 7, "a quotation that no ' ends"),
        ("region=north & camera", 13, "'&' has no meaning here"),
        ("region=in", 7, "put it between quotes"),
    ],
)
def test_what_is_refused_says_where(text: str, position: int, problem: str) -> None:
    with pytest.raises(SelectorError) as caught:
        parse(text)
    assert caught.value.position == position
    assert problem in str(caught.value)
    assert f"character {position + 1}:" in str(caught.value)


def test_no_text_is_too_deep_or_too_long_to_be_refused() -> None:
    assert parse("(" * MAX_NESTING + "a" + ")" * MAX_NESTING)
    for text in ("(" * 9_000, "not " * 2_000 + "a", "a" * (MAX_CHARACTERS + 1)):
        with pytest.raises(SelectorError):
            parse(text)
