"""What ``headway doctor`` looks at on the bus. Pure: what the bus said goes in, findings come out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from headway.cli.checks import NOTE, OK, WRONG, Finding
from headway.cli.words import duration, number
from headway_bus.errors import HeadwayError, Refused
from headway_bus.records import Code, RuntimeState

CLOCKS_NOTE = 1.0
"""Seconds that two clocks may differ before it is worth a word. headway itself never compares two clocks; people do, in
listings and logs."""


SERVING = ("runtime", "edge")
"""Roles whose keys are for giving out work, not for asking about it."""


def check_no_answer(url: str, error: HeadwayError, role: str) -> Finding:
    """Why the bus could not be asked. ``role``: that of the key that was shown, empty if none was."""
    if not isinstance(error, Refused):
        return Finding("bus", WRONG, str(error), "headway up")
    if error.code == Code.FORBIDDEN and role in SERVING and f"of the role {role}" in str(error):
        text = f"answers at {url} and knows this key, of the role {role}: it is for `headway {role}`, and asks nothing"
        return Finding("bus", OK, text)
    return Finding("bus", WRONG, str(error), "show a key that the bus knows, with --key-file or $HEADWAY_KEY_FILE")


def check_peers(peers: Sequence[Mapping[str, Any]]) -> Finding:
    """Who is connected, by role."""
    roles = [str(peer.get("role", "?")) for peer in peers]
    counted = ", ".join(f"{roles.count(role)} {role}" for role in sorted(set(roles)))
    if "controller" not in roles:
        advice = "start `headway controller`, or `headway up` for everything"
        return Finding("peers", WRONG, f"no controller is connected ({counted or 'nobody is'})", advice)
    return Finding("peers", OK, counted)


def check_store(health: Mapping[str, Any]) -> Finding:
    """What the controller says of its own store: whether it is well, and its findings in words."""
    text = "; ".join(map(str, health.get("findings", ()))) or "the controller has nothing to say of it"
    if health.get("well"):
        return Finding("store", OK, text)
    return Finding("store", WRONG, text, "mend that; nothing that was accepted is forgotten meanwhile")


def check_controller(state: Mapping[str, Any]) -> Finding:
    """Whether the controller takes work and gives it out."""
    if state.get("refusing"):
        text = f"refuses submissions: {state['refusing']}"
        return Finding("controller", WRONG, text, "see the store below; it takes submissions again by itself")
    if state.get("paused"):
        return Finding("controller", NOTE, "is paused: it starts nothing", "it goes on when an operator resumes it")
    tasks = ", ".join(f"{count} {name}" for name, count in sorted(dict(state.get("tasks", {})).items()))
    return Finding("controller", OK, f"tasks in memory: {tasks or 'none'}")


def check_runtimes(states: Sequence[RuntimeState]) -> list[Finding]:
    """Whether somebody is there to run work, and a finding for each that is not well."""
    online = [state for state in states if state.state == "online"]
    slots = number(sum(state.info.slots for state in online))
    findings = [
        Finding("runtimes", OK, f"{len(online)} online with {slots} slots")
        if online
        else Finding("runtimes", WRONG, "none is online: submitted tasks will wait", "start one with `headway runtime`")
    ]
    for state in states:
        if state.state == "set-aside":
            advice = "mend that machine; it is tried again by itself"
            findings.append(Finding("runtimes", WRONG, f"{state.info.name} is set aside: {state.why}", advice))
        elif state.state in ("draining", "offline"):
            text = f"{state.info.name} is {state.state}" + (f": {state.why}" if state.why else "")
            findings.append(Finding("runtimes", NOTE, text))
    return findings


def check_versions(own: str, others: Mapping[str, str]) -> Finding:
    """``others``: what runs at the other ends, by name; an empty version was not told."""
    different = [f"{name} {theirs}" for name, theirs in sorted(others.items()) if theirs and theirs != own]
    if not different:
        return Finding("versions", OK, f"{own} everywhere")
    text = f"this is {own}, but there are {', '.join(different)}"
    return Finding("versions", NOTE, text, "install one version everywhere; protocol 1 is common to all of them")


def check_clock(whose: str, theirs: float, ours: float, uncertain: float) -> Finding:
    """Unix seconds there and here, and by how much the way between may blur the difference."""
    difference = theirs - ours
    if abs(difference) <= CLOCKS_NOTE + uncertain:
        return Finding("clocks", OK, f"the {whose}'s differs from this one's by {duration(abs(difference))}")
    text = f"the {whose}'s is {duration(abs(difference))} {'ahead of' if difference > 0 else 'behind'} this one's"
    return Finding("clocks", NOTE, text, "set both by NTP; the times in listings are the controller's")
