"""A file of JSON, TOML or YAML as plain data. Errors name the file, the line and the column."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from headway.batch.errors import BatchFileError

SUFFIXES = (".json", ".toml", ".yml", ".yaml")


def read_tree(path: Path) -> dict[str, Any]:
    """The object that the file holds. Raises BatchFileError."""
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise BatchFileError(f"{path}: expected a file that ends in {', '.join(SUFFIXES)}")
    text = _text(path)
    readers = {".json": _json, ".toml": _toml}
    tree = readers.get(suffix, _yaml)(path, text)
    if not isinstance(tree, dict):
        raise BatchFileError(f"{path}: expected an object with names and values at the top, not {_kind(tree)}")
    return tree


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise BatchFileError(f"{path}: no such file") from None
    except OSError as error:
        raise BatchFileError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BatchFileError(f"{path}: byte {error.start} is not UTF-8, in which the file is expected to be") from None


def _json(path: Path, text: str) -> Any:
    def no_constant(name: str) -> None:
        raise BatchFileError(f"{path}: {name} is no value in JSON; write a number, a text or null")

    def no_twin(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _value in pairs]
            twin = next(name for name in names if names.count(name) > 1)
            raise BatchFileError(f"{path}: {twin!r} stands twice in the same object; one of them would be lost")
        return found

    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=no_twin)
    except json.JSONDecodeError as error:
        raise BatchFileError(f"{path}: line {error.lineno}, column {error.colno}: {error.msg}") from None
    except RecursionError:
        raise BatchFileError(f"{path}: nested too deeply") from None


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BatchFileError(f"{path}: {error}") from None


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ModuleNotFoundError:
        raise BatchFileError(
            f"{path}: YAML needs PyYAML: pip install 'headway[yaml]' (or write JSON or TOML)"
        ) from None
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BatchFileError(f"{path}: {place}{error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise BatchFileError(f"{path}: {error}") from None


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), "a number")
