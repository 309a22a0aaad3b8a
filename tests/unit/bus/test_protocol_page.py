"""docs/protocol.md and its vectors say what the code does."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from headway_bus import codec, ids, messages, payloads
from headway_bus.messages import Message

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture(scope="module")
def maker() -> Iterator[Any]:
    path = list(sys.path)
    spec = importlib.util.spec_from_file_location("make_protocol", DOCS / "make_protocol.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = path


@pytest.fixture(scope="module")
def vectors() -> Any:
    return json.loads((DOCS / "protocol_vectors.json").read_text())


@pytest.fixture(scope="module")
def text() -> str:
    return (DOCS / "protocol.md").read_text()


def test_page_is_what_its_maker_writes(maker: Any, text: str) -> None:
    assert maker.page(text) == text, "run python docs/make_protocol.py"


def test_vectors_are_what_their_maker_writes(maker: Any) -> None:
    assert maker.VECTORS.read_text() == maker.vectors(), "run python docs/make_protocol.py"


def test_every_message_and_record_stands_in_the_page_with_its_fields_in_order(maker: Any, text: str) -> None:
    for record in [*Message.__subclasses__(), *maker.PARTS_OF_MESSAGES, *maker.all_records()]:
        name = messages.tag_of(record.__name__) if issubclass(record, Message) else record.__name__
        section = re.search(rf"^#### {name}\n(.*?)(?=^###|^<!--)", text, re.MULTILINE | re.DOTALL)
        assert section is not None, name
        fields = re.findall(r"^\| \d+ \| `(\w+)` \|", section[1], re.MULTILINE)
        assert fields == list(record.__struct_fields__), name


def test_every_message_is_in_a_direction(maker: Any) -> None:
    directed = {record for _, union in maker.DIRECTIONS for record in get_args(union)}
    assert directed == set(Message.__subclasses__())


def test_every_message_has_an_example_and_every_field_a_meaning(maker: Any) -> None:
    assert {type(example) for example in maker.examples.MESSAGES} == set(Message.__subclasses__())
    for record in [*Message.__subclasses__(), *maker.PARTS_OF_MESSAGES, *maker.all_records()]:
        assert maker.in_words(maker.DESCRIPTIONS.get(record.__name__, record.__doc__), record) or record in (
            maker.PARTS_OF_MESSAGES
        ), record
        for field in record.__struct_fields__:
            assert maker.meaning(record, field), f"{record.__name__}.{field}"


def test_links_lead_somewhere(text: str) -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= headings


# ------------------------------------------------------------------------------------------------------ vectors


def test_header_vectors_are_read_and_written_again(vectors: Any) -> None:
    everything = codec.Decoder(
        messages.CLIENT_RECEIVES | messages.RUNTIME_RECEIVES | messages.CONTROLLER_RECEIVES | messages.BROKER_RECEIVES
    )
    for vector in vectors["headers"]:
        header = bytes.fromhex(vector["hex"])
        assert codec.name_of(header) == vector["message"]
        assert codec.encode(everything.decode(header)) == header


def test_shorter_and_longer_headers_are_read() -> None:
    """Defaults may be left out from the end, and what a later version adds is passed over."""
    decoder = codec.for_broker()
    assert decoder.decode(msgspec.msgpack.encode(["bye"])) == messages.Bye()
    assert decoder.decode(msgspec.msgpack.encode(["bye", "why", 1, {}])) == messages.Bye("why")


def test_payload_vectors_are_read_and_written_again(vectors: Any) -> None:
    for vector in vectors["payloads"]:
        data = bytes.fromhex(vector["hex"])
        value = payloads.decode(data)
        assert " ".join(repr(value).split()) == vector["value"]
        assert payloads.encode(value) == data


def test_call_vectors_are_read_and_written_again(vectors: Any, maker: Any) -> None:
    for vector, (_, args, kwargs, extras) in zip(vectors["calls"], maker.examples.CALLS, strict=True):
        data = bytes.fromhex(vector["hex"])
        assert payloads.decode_call(data) == (tuple(args), kwargs, extras)
        assert payloads.encode_call(args, kwargs, extras) == data


def test_vectors_of_ids_and_digests(vectors: Any) -> None:
    for vector in vectors["ids"]:
        assert ids.parse_task_id(vector["text"]).hex() == vector["hex"]
    for vector in vectors["named_ids"]:
        assert ids.named_task_id(vector["name"]).hex() == vector["hex"]
    for vector in vectors["digests"]:
        digest = 0
        for task, attempt in vector["attempts"]:
            low = int.from_bytes(bytes.fromhex(task)[8:16], "big")
            digest ^= low ^ (attempt * 0x9E3779B97F4A7C15 % 2**64)  # as the page says it
        assert digest == vector["digest"]
