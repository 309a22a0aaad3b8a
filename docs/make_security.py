"""Fills the tables of docs/security.md from the code: who may say what to whom, and the limits.

Run it from anywhere: ``python docs/make_security.py``. Between ``<!-- made: NAME -->`` and ``<!-- end -->`` stands what this
file writes, everything else is written by hand. A test fails when the page is not what this would write.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from headway_broker.connections import UNHEARD_MESSAGES
from headway_broker.limits import BURST_SECONDS, Limits
from headway_broker.permissions import ALLOWED, ASK_BROKER, MAY_PUBLISH, ROLES, TO_BROKER
from headway_bus.codec import MAX_HEADER_BYTES

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security.md"
ORDER = ("read", "client", "admin", "runtime", "edge", "controller")


def permissions() -> str:
    """One row for each message, with the roles that may send it, by target."""
    assert set(ORDER) == ROLES
    rows = ["| Message | to | from |", "|---|---|---|"]
    for name in sorted(ASK_BROKER):
        senders = [role for role in ORDER if name in TO_BROKER[role]]
        rows.append(
            f"| `{name}` | the broker | {', '.join(senders) or 'a key that is not known, while an invitation is open'} |"
        )
    for receivers in (("controller",), ("read", "client", "admin"), ("runtime", "edge")):
        allowed = {sender: names for (sender, receiver), names in ALLOWED.items() if receiver == receivers[0]}
        target = (
            "the controller" if receivers == ("controller",) else f"a {', '.join(receivers[:-1])} or {receivers[-1]}"
        )
        for name in sorted(set().union(*allowed.values())):
            senders = [role for role in ORDER if name in allowed.get(role, ())]
            rows.append(f"| `{name}` | {target} | {', '.join(senders)} |")
    rows.append(f"| whatever is published | a topic | {', '.join(sorted(MAY_PUBLISH))} |")
    return "\n".join(rows)


def limits() -> str:
    """What is limited, by what, and what is counted when it is exceeded."""
    settings = tomllib.loads((ROOT / "config.toml").read_text(encoding="utf-8"))
    broker, bus, controller = settings["broker"], settings["bus"], settings["controller"]
    fixed = Limits()
    rows = [
        ("bytes of a message", "bus.max_message", bus["max_message"], "rejected.too-large"),
        ("bytes of a header", "fixed", MAX_HEADER_BYTES, "rejected.too-large"),
        ("bytes of a value", "bus.payload_limit", bus["payload_limit"], "submissions.denied.invalid"),
        ("bytes of a file", "bus.file_limit", bus["file_limit"], "submissions.denied.invalid"),
        ("messages of a peer in a second", "broker.messages_per_second", broker["messages_per_second"],
         "refused.messages-per-second"),
        ("bytes of a peer in a second", "broker.bytes_per_second", broker["bytes_per_second"], "refused.bytes-per-second"),
        ("seconds of that rate at once", "fixed", BURST_SECONDS, ""),
        ("peers connected", "broker.max_peers", broker["max_peers"], "rejected.limit"),
        ("connections with one client's key", "fixed", fixed.per_key, "rejected.limit"),
        ("seconds of a handshake", "broker.handshake_timeout", broker["handshake_timeout"], ""),
        ("connections on which nobody has said hello", "broker.max_half_open", broker["max_half_open"], "cut.half-open"),
        ("bytes through the port without a message's end", "fixed", f"{UNHEARD_MESSAGES} × `bus.max_message`", "cut.endless"),
        ("answers to strangers in a second", "fixed", fixed.strangers_per_second, "strangers.unanswered"),
        ("topics of a peer", "broker.max_topics", broker["max_topics"], "rejected.limit"),
        ("messages that wait for a peer", "broker.high_water_mark", broker["high_water_mark"], "refused.full"),
        ("unfinished tasks", "controller.max_tasks", controller["max_tasks"], "submissions.denied.limit"),
        ("unfinished tasks of a client", "controller.max_tasks_per_client", controller["max_tasks_per_client"],
         "submissions.denied.limit"),
        ("bytes of arguments of a client's unfinished tasks", "controller.max_bytes_per_client",
         controller["max_bytes_per_client"], "submissions.denied.limit"),
        ("unfinished tasks of a namespace", "controller.max_tasks_per_namespace",
         controller["max_tasks_per_namespace"], "submissions.denied.limit"),
        ("bytes of arguments of a namespace's unfinished tasks", "controller.max_bytes_per_namespace",
         controller["max_bytes_per_namespace"], "submissions.denied.limit"),
        ("log records kept of a task", "controller.logs_per_task", controller["logs_per_task"], "logs.dropped"),
        ("log records kept of a task in a second", "controller.logs_per_second", controller["logs_per_second"],
         "logs.dropped"),
    ]  # fmt: skip
    lines = ["| What | Setting | Default | Counter |", "|---|---|---|---|"]
    for what, setting, value, counter in rows:
        shown = f"`{setting}`" if "." in setting else setting
        default = value if isinstance(value, str) else f"{value:,}"
        lines.append(f"| {what} | {shown} | {default} | {f'`{counter}`' if counter else ''} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its made parts made anew."""
    for name, made in (("permissions", permissions()), ("limits", limits())):
        pattern = rf"(<!-- made: {name} -->\n\n).*?(\n\n<!-- end -->)"
        text, count = re.subn(pattern, lambda match, made=made: match[1] + made + match[2], text, flags=re.DOTALL)
        assert count == 1, name
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
