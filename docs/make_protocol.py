"""Fills the made parts of docs/protocol.md from the code, and writes docs/protocol_vectors.json.

Run it from anywhere: ``python docs/make_protocol.py``. Between ``<!-- made: NAME -->`` and ``<!-- end -->`` stands what this
file writes, everything else is written by hand. A test fails when the page or the vectors are not what this would write.
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from headway_bus import codec, handover, ids, link, messages, payloads, records, session
from headway_bus.payload_types import Extension

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

import protocol_examples as examples  # noqa: E402
from protocol_words import ANSWERS, DESCRIPTIONS, EXTENSIONS, MEANINGS, SPECIAL  # noqa: E402

PAGE = FOLDER / "protocol.md"
VECTORS = FOLDER / "protocol_vectors.json"

DIRECTIONS: list[tuple[str, Any]] = [
    ("Any peer → broker", messages.ToBroker),
    ("Broker → any peer", messages.FromBroker),
    ("Client → controller", messages.ClientToController),
    ("Controller → client", messages.ControllerToClient),
    ("Controller → runtime", messages.ControllerToRuntime),
    ("Runtime → controller", messages.RuntimeToController),
]

PARTS_OF_MESSAGES = [messages.Group, messages.AssignGroup]

# ------------------------------------------------------------------------------------------------------ reading the code


def all_records() -> list[type[msgspec.Struct]]:
    """The records that travel inside messages, in the order of their file."""
    found = [each for each in vars(records).values() if isinstance(each, type) and issubclass(each, records.Record)]
    return [each for each in found if each is not records.Record]


def all_enums() -> list[type[enum.StrEnum]]:
    return [
        each
        for each in vars(records).values()
        if isinstance(each, type) and issubclass(each, enum.StrEnum) and each is not enum.StrEnum
    ]


def remarks(module: types.ModuleType) -> dict[tuple[str, str], str]:
    """(class, field or member) → the comment behind it."""
    source = inspect.getsource(module)
    lines = source.splitlines()
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(source).body:
        for statement in node.body if isinstance(node, ast.ClassDef) else []:
            line = lines[(statement.end_lineno or 1) - 1]
            if "  # " not in line:
                continue
            remark = line.partition("  # ")[2].strip()
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                found[node.name, statement.target.id] = remark
            elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                found[node.name, statement.targets[0].id] = remark
    return found


REMARKS = remarks(messages) | remarks(records)


def meaning(record: type, field: str) -> str:
    """What a field means. Empty: nobody said."""
    remark = REMARKS.get((record.__name__, field), "").replace("``", "`")
    return remark or SPECIAL.get((record.__name__, field)) or MEANINGS.get(field, "")


def wire_name(record: type) -> str:
    """A message's name on the wire, a record's own name."""
    return messages.tag_of(record.__name__) if issubclass(record, messages.Message) else record.__name__


def type_text(kind: Any) -> str:
    """A type in words of msgpack."""
    plain = {int: "int", float: "float", str: "str", bytes: "bin", bool: "bool", Any: "any", types.NoneType: "nil"}
    if kind in plain:
        return plain[kind]
    if kind is ids.TaskId:
        return "id"
    if isinstance(kind, type) and issubclass(kind, enum.Enum | msgspec.Struct):
        return f"[{wire_name(kind)}](#{wire_name(kind).lower()})"
    origin, parts = get_origin(kind), get_args(kind)
    if origin is list:
        return f"[{type_text(parts[0])} …]"
    if origin is tuple:
        return f"({', '.join(map(type_text, parts))})"
    if origin is dict:
        return f"{{{type_text(parts[0])}: {type_text(parts[1])} …}}"
    if origin in (Union, types.UnionType):
        return "payload" if records.Blob in parts else " or ".join(map(type_text, parts))
    raise TypeError(f"no words for {kind!r}")


def in_words(docstring: str | None, record: type) -> str:
    """A docstring as Markdown: references to messages and records become links."""
    text = inspect.cleandoc(docstring or "").strip()
    if text.startswith(f"{record.__name__}("):
        return ""  # made by msgspec, says nothing

    def linked(match: re.Match[str]) -> str:
        named = getattr(messages, match[1], None) or getattr(records, match[1], None)
        return f"[`{wire_name(named)}`](#{wire_name(named).lower()})" if isinstance(named, type) else f"`{match[1]}`"

    text = re.sub(r":\w+:`(?:[\w.]*\.)?(\w+)`", linked, text)
    return re.sub(r"\s+", " ", text.replace("``", "`"))


# ------------------------------------------------------------------------------------------------------ writing


def diagnostic(value: Any) -> str:
    """A value as a person can read it: binary as ``h'…'``, the rest as JSON."""
    if isinstance(value, bytes):
        return f"h'{value.hex()}'"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(diagnostic, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{diagnostic(key)}: {diagnostic(inner)}" for key, inner in value.items()) + "}"
    return "nil" if value is None else json.dumps(value, ensure_ascii=False)


def table(record: type[msgspec.Struct], first: int) -> str:
    """The fields in the order of the wire; ``first`` is the place of the first in the array."""
    hints = get_type_hints(record)
    rows = ["| # | Field | Type | Default | Meaning |", "|---|---|---|---|---|"]
    for at, field in enumerate(msgspec.structs.fields(record), first):
        default = "" if field.required else f"`{diagnostic(_default(field))}`"
        rows.append(
            f"| {at} | `{field.name}` | {type_text(hints[field.name])} | {default} | {meaning(record, field.name)} |"
        )
    return "\n".join(rows) + "\n" if len(rows) > 2 else "No fields.\n"


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return msgspec.msgpack.decode(msgspec.msgpack.encode(field.default))
    return field.default_factory()


def section(record: type[msgspec.Struct], first: int, example: msgspec.Struct | None = None) -> str:
    """A record's heading, description, fields, and example."""
    said = in_words(DESCRIPTIONS.get(record.__name__, record.__doc__), record)
    if answer := ANSWERS.get(record.__name__):
        said = f"{said} Answered by [`{answer}`](#{answer}) or [`denied`](#denied).".strip()
    text = f"#### {wire_name(record)}\n\n" + (f"{said}\n\n" if said else "") + table(record, first)
    if example is not None:
        text += f"\n```\n{diagnostic(msgspec.msgpack.decode(msgspec.msgpack.encode(example)))}\n```\n"
    return text


def made_messages() -> str:
    """Every message, once, under the first direction it is in; further directions point there."""
    by_class = {type(example): example for example in examples.MESSAGES}
    parts, seen = [], set()
    for title, union in DIRECTIONS:
        parts.append(f"### {title}\n")
        for record in get_args(union):
            if record in seen:
                parts.append(f"Also [`{wire_name(record)}`](#{wire_name(record)}).\n")
            else:
                seen.add(record)
                parts.append(section(record, 1, by_class[record]))
    return "\n".join(parts)


def made_records() -> str:
    return "\n".join(section(record, 0) for record in [*PARTS_OF_MESSAGES, *all_records()])


def made_words() -> str:
    parts = []
    for kind in all_enums():
        rows = [f"#### {kind.__name__}\n\n{in_words(kind.__doc__, kind)}\n\n| Word | Meaning |\n|---|---|"]
        rows += [f"| `{member.value}` | {REMARKS.get((kind.__name__, member.name), '')} |" for member in kind]
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def made_extensions() -> str:
    rows = ["| Number | Value | Data |", "|---|---|---|"]
    rows += [f"| {code.value} | {EXTENSIONS[code][0]} | {EXTENSIONS[code][1]} |" for code in Extension]
    return "\n".join(rows) + "\n"


def made_limits() -> str:
    limits = [
        ("protocol version", f"{messages.PROTOCOL_VERSION}"),
        ("bytes of a header", f"{codec.MAX_HEADER_BYTES:,}"),
        ("bytes of a task id", f"{ids.ID_BYTES}"),
        ("heartbeats of silence after which a peer or the broker counts as gone", f"{session.SILENT_HEARTBEATS}"),
        ("seconds at most before the first attempt to connect again", f"{session.FIRST_RETRY:g}"),
        ("seconds at most between attempts", f"{session.LAST_RETRY:g}"),
        ("seconds after which an unacknowledged hand-over is repeated", f"{handover.Outbox().retry_after:g}"),
        ("extension values inside one another in a payload", f"{payloads.MAX_NESTING}"),
        ("bytes of a payload, unless set otherwise (`[bus] payload_limit`)", f"{payloads.DEFAULT_LIMIT:,}"),
        ("target of the broker", "empty"),
        ("target of the controller", f"`{link.CONTROLLER.decode()}`"),
        ("first byte of a topic as a target", f"`{link.TOPIC.decode()}`"),
    ]
    rows = ["| What | Value |", "|---|---|", *(f"| {what} | {value} |" for what, value in limits)]
    return "\n".join(rows) + "\n"


MADE: dict[str, Callable[[], str]] = {
    "messages": made_messages,
    "records": made_records,
    "words": made_words,
    "extensions": made_extensions,
    "limits": made_limits,
}


def page(text: str) -> str:
    """The page with its made parts renewed."""
    for name, make in MADE.items():
        begin, end = f"<!-- made: {name} -->\n", "<!-- end -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"docs/protocol.md: expected a part {begin.strip()} … {end}")
        text = f"{before}{begin}\n{make()}\n{end}{after}"
    return text


# ------------------------------------------------------------------------------------------------------ vectors


def vectors() -> str:
    """The test vectors as JSON."""
    task = examples.TASK
    found = {
        "headers": [
            {"message": codec.name_of(codec.encode(each)), "hex": codec.encode(each).hex(), "value": shown(each)}
            for each in examples.MESSAGES
        ],
        "payloads": [
            {"what": what, "hex": payloads.encode(value).hex(), "value": " ".join(repr(value).split())}
            for what, value in examples.PAYLOADS
        ],
        "calls": [
            {
                "what": what,
                "hex": payloads.encode_call(args, kwargs, extras).hex(),
                "value": diagnostic([args, kwargs, extras]),
            }
            for what, args, kwargs, extras in examples.CALLS
        ],
        "ids": [{"hex": each.hex(), "text": ids.text_of(each)} for each in (task, examples.OTHER)],
        "named_ids": [{"name": name, "hex": ids.named_task_id(name).hex()} for name in ("nightly", str(_UUID))],
        "digests": [
            {"attempts": [[task.hex(), 1]], "digest": ids.digest_of(task, 1)},
            {
                "attempts": [[task.hex(), 2], [examples.OTHER.hex(), 1]],
                "digest": ids.digest_of(task, 2) ^ ids.digest_of(examples.OTHER, 1),
            },
        ],
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


_UUID = examples.PAYLOADS[12][1]


def shown(message: messages.Message) -> str:
    return diagnostic(msgspec.msgpack.decode(codec.encode(message)))


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    VECTORS.write_text(vectors(), encoding="utf-8")
