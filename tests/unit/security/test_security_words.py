"""How an invitation is handed on: a line that keeps it out of `ps`, and a QR code that says the same."""

from __future__ import annotations

import sys

import pytest

from headway.cli.keys_words import invitation_lines, qr_lines, when

TEXT = "hw1." + "aB3_" * 40


def test_an_invitation_is_no_argument() -> None:
    line = invitation_lines(TEXT, "runtime")[-1]
    variable, command = line.split(" ", 1)
    assert variable == f"HEADWAY_INVITATION={TEXT}"
    assert command == "headway keys join"
    assert invitation_lines(TEXT, "edge")[0] == "# on the machine that shall be an edge:"


def test_a_qr_code_is_the_codes_modules() -> None:
    segno = pytest.importorskip("segno")
    drawn = qr_lines(TEXT)
    modules = [[bool(cell) for cell in row] for row in segno.make(TEXT, error="l").matrix]
    upper = {"█": False, "▀": False, "▄": True, " ": True}
    lower = {"█": False, "▀": True, "▄": False, " ": True}
    pixels = [[half[block] for block in line] for line in drawn for half in (upper, lower)]
    inner = [row[2 : 2 + len(modules)] for row in pixels[2 : 2 + len(modules)]]
    assert inner == modules
    assert not any(pixels[0]) and not any(row[0] or row[-1] for row in pixels)  # the quiet zone


def test_without_segno_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "segno", None)
    assert "headway[qr]" in qr_lines(TEXT)[0]


def test_when_a_key_expires() -> None:
    assert when(0.0, 100.0) == "never"
    assert when(50.0, 100.0) == "has expired"
    assert when(160.0, 100.0).startswith("in ")
