"""After a submission: print the id, or wait, stream the output, and leave as the task ended."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from headway.cli.failures import DONE, FAILED, CommandError
from headway.cli.output import note, print_json
from headway.cli.streams import print_record
from headway.cli.words import plain
from headway_bus.errors import TaskError
from headway_bus.ids import short_text

if TYPE_CHECKING:
    from headway import ClientTask


def finish(task: ClientTask, *, wait: bool, follow: bool, as_json: bool, is_process: bool = False) -> int:
    """What follows a submission; returns the exit status.

    ``is_process``: a command or a script, whose output is what a person waits for; its result is only its exit status.
    Raises KeyboardInterrupt again after saying that the task goes on without the person.
    """
    if not (wait or follow):
        print_json({"id": task.id}) if as_json else click.echo(task.id)
        return DONE
    try:
        return _wait(task, follow or is_process, as_json, is_process)
    except KeyboardInterrupt:
        short = short_text(task.task_id)
        note(
            f"the task goes on without you: `headway show {short}`, `headway logs -f {short}`, `headway cancel {short}`"
        )
        raise


def _wait(task: ClientTask, follow: bool, as_json: bool, is_process: bool) -> int:
    if follow:
        for record in task.logs(follow=True):
            # With --json the output must not get between the braces, so all of it goes to standard error.
            print_record(record, sys.stderr if as_json else None)
    error = task.exception()
    if isinstance(error, TaskError):
        _print_failure(task, error, as_json)
        return FAILED
    if error is not None:
        raise error
    value = None if is_process and not as_json else _shown_value(task)
    if as_json:
        print_json({"id": task.id, "status": "succeeded", "result": plain(value), "error": None})
    elif value is not None:
        click.echo(result_text(value))
    return DONE


def _shown_value(task: ClientTask) -> Any:
    """The value; where files lie beside it, which may be larger than the memory, the sizes of all of them."""
    if task.outcome is not None and task.outcome.files:
        return {"outputs": {path: output.size for path, output in task.outputs().items()}}
    return task.result()


def _print_failure(task: ClientTask, error: TaskError, as_json: bool) -> None:
    if as_json:
        print_json({"id": task.id, "status": task.status.value, "result": None, "error": plain(error.error)})
        return
    raise CommandError(str(error))


def result_text(value: Any) -> str:
    """Text as it is, everything else as JSON, in one line."""
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
