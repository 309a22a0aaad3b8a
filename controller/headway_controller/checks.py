"""What is refused before it is stored: options that cannot be kept, dependencies that can never be met."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from headway_bus import namespaces
from headway_bus.copying import HASH_BYTES
from headway_bus.ids import ID_BYTES, TaskId, short_text
from headway_bus.messages import Group, Report
from headway_bus.records import (
    MAX_DESCRIPTION,
    AttemptEnd,
    Blob,
    Ended,
    ErrorInfo,
    File,
    Kind,
    LogRecord,
    Options,
    Reason,
    RuntimeInfo,
    Started,
)
from headway_bus.selector import SelectorError, parse

MAX_TEXT = 1_000
MAX_TARGET = 100_000  # a shell line may be long
MAX_META = 1_000
MAX_META_TEXT = 1_000
MAX_DEPENDENCIES = 100_000
MAX_ROUNDS = 100_000
LARGEST = 2**53
"""The largest count that every language's numbers hold, and every store's."""

MOST_DROPPED = 10**9
"""Records that one report can say were dropped. The counter of them all must stay a number that can be sent."""

LONGEST = 10 * 365 * 86_400.0
"""Seconds beyond which a delay or a limit is taken for a mistake of units."""


def find_fault(options: Options) -> str:
    """What is wrong with a task's options, with the field, the value and what was expected; empty if nothing is."""
    if not options.target or len(options.target) > MAX_TARGET or "\0" in options.target:
        return f"target: expected 1 to {MAX_TARGET} characters without NUL, got {len(options.target)}"
    for field in ("name", "job", "queue", "key"):
        text = getattr(options, field)
        if len(text) > MAX_TEXT:
            return f"{field}: {len(text)} characters, at most {MAX_TEXT} are kept"
    if options.namespace and not namespaces.NAME.fullmatch(options.namespace):
        return f"namespace: {options.namespace[:40]!r}; expected up to 32 letters, digits, '.', '_', '-'"
    if options.kind == Kind.CALL and not options.by_value and not _is_import_path(options.target):
        return f"target: {options.target[:80]!r} is not an import path; expected package.module:function"
    return (
        _find_number_fault(options)
        or _find_dependency_fault(options)
        or _find_meta_fault(options)
        or _find_union_fault(options)
        or _find_bundle_fault(options)
    )


def _is_import_path(target: str) -> bool:
    module, colon, name = target.partition(":")
    return bool(colon) and all(part.isidentifier() for part in [*module.split("."), *name.split(".")])


def _find_number_fault(options: Options) -> str:
    requirements, retry = options.requirements, options.retry
    seconds: dict[str, float] = {
        "delay": options.delay,
        "timeout_start": options.timeout_start,
        "offline": options.offline,
        "timeout_run": options.timeout_run,
        "grace": options.grace,
        "retry.backoff": retry.backoff,
        "retry.backoff_max": retry.backoff_max,
    }
    for field, value in seconds.items():
        if not 0 <= value <= LONGEST:
            return f"{field}: {value!r} s; expected 0 to {LONGEST:.0f}"
    amounts = {
        "slots": requirements.slots,
        "cpu": requirements.cpu,
        "memory": requirements.memory,
        "gpu": requirements.gpu,
    }
    for field, amount in {**amounts, **requirements.custom}.items():
        if not (math.isfinite(amount) and amount >= 0):
            return f"requirements.{field}: {amount!r}; expected a number from 0 up"
    if not 1 <= retry.max_attempts <= 1_000_000 or not 0 <= retry.max_losses <= 1_000_000:
        return f"retry: {retry.max_attempts} attempts and {retry.max_losses} losses; expected at least 1 and 0"
    if not -(10**9) <= options.priority <= 10**9:
        return f"priority: {options.priority}; expected -1000000000 to 1000000000"
    if math.isnan(options.retention):
        return "retention: not a number; expected seconds"
    return ""


def _find_dependency_fault(options: Options) -> str:
    if len(options.after) > MAX_DEPENDENCIES:
        return f"after: {len(options.after)} tasks; at most {MAX_DEPENDENCIES}"
    if any(len(parent) != ID_BYTES for parent in options.after):
        return f"after: expected ids of {ID_BYTES} bytes"
    if options.after_count not in ("all", "any"):
        return f"after_count: {options.after_count!r}; expected 'all' or 'any'"
    if options.after_end not in ("success", "always"):
        return f"after_end: {options.after_end!r}; expected 'success' or 'always'"
    return ""


def _find_bundle_fault(options: Options) -> str:
    if options.replaces and options.replaces not in options.after:
        return "replaces: a new version comes after the old one; name it in after, with after_end 'always'"
    if fault := find_description_fault(options.description):
        return fault
    if options.outputs and options.kind not in (Kind.SCRIPT, Kind.COMMAND):
        return "outputs: only scripts and commands leave files; a call returns a value"
    for pattern in options.outputs:
        if not pattern or pattern.startswith("/") or ".." in pattern.split("/") or "\0" in pattern:
            return f"outputs: {pattern[:80]!r} does not stay within the attempt's folder"
    return ""


def find_description_fault(text: str) -> str:
    """What is wrong with a description; empty if nothing is."""
    return f"description: {len(text)} characters; at most {MAX_DESCRIPTION}" if len(text) > MAX_DESCRIPTION else ""


def _find_union_fault(options: Options) -> str:
    plan = options.union
    if options.part is not None:
        return "part: only the controller makes the parts of a union"
    if plan is None:
        return ""
    try:
        parse(plan.edges)
    except SelectorError as error:
        return f"edges: {error}"
    if plan.merge and not _is_import_path(plan.merge):
        return f"merge: {plan.merge[:80]!r} is not an import path; expected package.module:function"
    if not 0 < plan.quorum <= 1:
        return f"quorum: {plan.quorum!r}; expected a share above 0, at most 1"
    if not 0 <= plan.deadline <= LONGEST:
        return f"deadline: {plan.deadline!r} s; expected 0 to {LONGEST:.0f}"
    if plan.late not in ("collect", "drop"):
        return f"late: {plan.late!r}; expected 'collect' or 'drop'"
    if not 1 <= plan.rounds <= MAX_ROUNDS or not 1 <= plan.least <= MAX_ROUNDS:
        return f"rounds: {plan.rounds} of at least {plan.least} edges; expected 1 to {MAX_ROUNDS} of each"
    if plan.feeds and not plan.merge:
        return "rounds: what one round is fed with is the merged value of the one before; name a merge"
    if options.by_value:
        return (
            "by_value: a union's values are merged by the controller's tasks, which take no pickle; name an import path"
        )
    return ""


def _find_meta_fault(options: Options) -> str:
    if len(options.meta) > MAX_META:
        return f"meta: {len(options.meta)} keys; at most {MAX_META}"
    for key, value in options.meta.items():
        if len(key) > MAX_META_TEXT or (isinstance(value, str) and len(value) > MAX_META_TEXT):
            return f"meta: {key[:40]!r} is longer than {MAX_META_TEXT} characters"
    return ""


def find_runtime_fault(info: RuntimeInfo) -> str:
    """What is wrong with what a runtime offers; empty if nothing is."""
    amounts = {"slots": info.slots, "cpu": info.cpu, "memory": info.memory, **info.custom}
    for field, amount in amounts.items():
        if not (math.isfinite(amount) and amount >= 0):
            return f"{field}: {amount!r}; expected a number from 0 up"
    if not (math.isfinite(info.speed) and info.speed > 0):
        return f"speed: {info.speed!r}; expected a number above 0, 1 for an ordinary machine"
    return ""


def sound_report(report: Report, frames: int) -> Report:
    """The report without numbers that would spoil estimates or that the store cannot keep; itself if there are none.

    It is not refused: a runtime repeats a report until it is settled, and what is right in it counts.
    """
    if (
        all(0.0 <= each.age <= LONGEST for each in report.started)
        and all(_is_sound_end(each, frames) for each in report.ended)
        and all(_is_sound_record(each) for each in report.logs)
        and all(0 <= count <= MOST_DROPPED for count in report.dropped.values())
    ):
        return report
    return Report(
        report.batch,
        [Started(each.task, each.attempt, sound_seconds(each.age)) for each in report.started],
        [each if _is_sound_end(each, frames) else _sound_end(each, frames) for each in report.ended],
        [each for each in report.logs if _is_sound_record(each)],
        {task: min(max(count, 0), MOST_DROPPED) for task, count in report.dropped.items()},
    )


def _is_sound_end(ended: Ended, frames: int) -> bool:
    result = ended.result
    return (
        0.0 <= ended.seconds <= LONGEST
        and 0.0 <= ended.age <= LONGEST
        and (type(result) is not int or 0 <= result < frames)
        and (not ended.files or all(map(is_sound_file, ended.files)))
    )


def _sound_end(ended: Ended, frames: int) -> Ended:
    result, end, error = ended.result, ended.end, ended.error
    if isinstance(result, int) and not 0 <= result < frames:
        text = f"its runtime reported a result in payload frame {result} of {frames}: a defect there"
        result, end, error = b"", AttemptEnd.FAILED, ErrorInfo(Reason.ENCODE, text)
    files = ended.files
    if not all(map(is_sound_file, files)):
        text = "its runtime reported a file without a hash of 32 bytes: a defect there"
        result, files, end, error = b"", [], AttemptEnd.FAILED, ErrorInfo(Reason.ENCODE, text)
    seconds, age = sound_seconds(ended.seconds), sound_seconds(ended.age)
    return Ended(ended.task, ended.attempt, end, seconds, result, error, age, files)


def is_sound_file(file: File) -> bool:
    """Whether this names a content, and has a name that can be shown."""
    return len(file.content.hash) == HASH_BYTES and 0 <= file.content.size <= LARGEST and len(file.path) <= MAX_TARGET


def _is_sound_record(record: LogRecord) -> bool:
    return 0 <= record.attempt <= LARGEST and 0 <= record.sequence <= LARGEST and math.isfinite(record.at)


def sound_seconds(value: float) -> float:
    """A length of time as a peer tells it, within reason."""
    return min(max(value, 0.0), LONGEST) if math.isfinite(value) else 0.0


def find_file_fault(options: Options, limit: int) -> str:
    """What is wrong with the files that go with a task; empty if nothing is."""
    for file in options.files:
        if not is_sound_file(file):
            return (
                f"file {file.path[:80]!r}: a hash of {len(file.content.hash)} bytes and a size of {file.content.size}"
            )
        if file.content.size > limit:
            return f"file {file.path[:80]!r}: {file.content.size} bytes; at most {limit} (setting bus.file_limit)"
    return ""


def find_task_fault(group: Group, frames: int, payload_limit: int) -> str:
    """What is wrong with the ids or payloads of a group; empty if nothing is."""
    for task_id, payload in group.tasks:
        if len(task_id) != ID_BYTES:
            return f"a task id of {len(task_id)} bytes; expected {ID_BYTES}"
        if isinstance(payload, int):
            if not 0 <= payload < frames:
                return f"task {short_text(task_id)}: payload frame {payload} of {frames}"
        elif isinstance(payload, Blob) and group.options.secret:
            return f"task {short_text(task_id)}: secret arguments in a blob, which is not encrypted; send them in the message"
        elif isinstance(payload, Blob) and not (len(payload.hash) == 32 and 0 <= payload.size <= payload_limit):
            return f"task {short_text(task_id)}: a blob of {payload.size} bytes; at most {payload_limit}"
    return ""


def find_cycle(parents: Mapping[TaskId, Sequence[TaskId]]) -> list[TaskId]:
    """A circle among new tasks, as the ids along it; empty if there is none. Known tasks cannot be part of one."""
    done: set[TaskId] = set()
    for start in parents:
        if start in done:
            continue
        # An iterator for each step, so that a chain of 100,000 tasks needs no recursion.
        stack: list[Iterator[TaskId]] = [iter(parents[start])]
        path = [start]
        on_path = {start}
        while stack:
            for parent in stack[-1]:
                if parent in on_path:
                    return path[path.index(parent) :]
                if parent in parents and parent not in done:
                    stack.append(iter(parents[parent]))
                    path.append(parent)
                    on_path.add(parent)
                    break
            else:
                stack.pop()
                done.add(path[-1])
                on_path.discard(path.pop())
    return []
