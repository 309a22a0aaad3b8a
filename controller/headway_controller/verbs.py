"""An operator's and a client's verbs that need the store or the service: retry, purge, blobs, pause, backup."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from headway_bus.errors import Refused
from headway_bus.ids import TaskId, text_of
from headway_bus.messages import (
    BlobGet,
    BlobHave,
    BlobPart,
    BlobPut,
    Control,
    ControllerState,
    Describe,
    Message,
    Purge,
    RetryTasks,
)
from headway_bus.namespaces import Scope, may_see
from headway_bus.records import ENDS, Code
from headway_controller.desk import Answer, Shell
from headway_controller.extensions import use_predictor, use_strategy
from headway_controller.state import Bytes
from headway_controller.store import StoredTask, TaskFilter

MAX_BLOB_PART = 16 * 1024 * 1024
JOB_PAGE = 1_000
VERBS = "pause, resume, strategy, predictor, backup, check, validate, forget"


class Verbs:
    """Does what is asked; ``answers`` maps a message's class to the method."""

    def __init__(self, shell: Shell, finish: Callable[[], None], lookup_table: str = "") -> None:
        self._shell = shell
        self._finish = finish
        self._lookup_table = lookup_table
        """The file of the predictor of that name, where the verb names none."""

        # Whoever asks may have left when the answer is worked out: what it may see comes with its question.
        self.answers: dict[type[Message], Callable[[str, Scope, Any, list[Bytes]], Awaitable[Answer | None]]] = {
            RetryTasks: self._retry,
            Purge: self._purge,
            Describe: self._describe,
            Control: self._control,
            BlobPut: self._blob_put,
            BlobGet: self._blob_get,
        }

    async def _retry(self, client: str, scope: Scope, ask: RetryTasks, frames: list[Bytes]) -> Answer | None:
        refused: list[tuple[str, str]] = []
        stored = await self._ended(scope, ask.tasks, ask.job, refused, with_payload=True)
        self._shell.core.revive(client, ask.request, stored, refused, self._shell.now())
        self._finish()
        return None  # the answer comes when it is stored

    async def _purge(self, client: str, scope: Scope, ask: Purge, frames: list[Bytes]) -> Answer | None:
        refused: list[tuple[str, str]] = []
        stored = await self._ended(scope, ask.tasks, ask.job, refused, with_payload=False)
        self._shell.core.purge(client, ask.request, [each.task for each in stored], refused)
        self._finish()
        return None

    async def _describe(self, client: str, scope: Scope, ask: Describe, frames: list[Bytes]) -> Answer | None:
        core = self._shell.core
        found = [] if ask.task in core.state.tasks else await self._shell.read(self._shell.store.find, [ask.task])
        if core.audience.refusing:
            raise Refused(Code.STORE, core.audience.refusing)
        at = self._shell.now() + core.life.wall_offset
        core.descriptions.describe(client, scope, ask, found[0] if found else None, at)
        self._finish()
        return None

    async def _ended(
        self, scope: Scope, tasks: list[TaskId], job: str, refused: list[tuple[str, str]], *, with_payload: bool
    ) -> list[StoredTask]:
        """The ended ones among these tasks and the job's; why not, of the others that were named."""
        store, live = self._shell.store, self._shell.core.state.tasks
        named = await self._shell.read(store.find, tasks) if tasks else []
        found = {each.task: each for each in named if may_see(scope, each.options.namespace)}
        for task_id in tasks:
            if task_id not in found:
                refused.append((text_of(task_id), "it is not known"))
            elif task_id in live or found[task_id].end is None:
                refused.append((text_of(task_id), "it has not ended"))
                del found[task_id]
        before = TaskId(b"")
        while job:
            page = await self._shell.read(
                store.find_page, TaskFilter(job=job, ends=ENDS, namespaces=scope), JOB_PAGE, before
            )
            ids = [each.task for each in page if each.task not in live]
            rows = await self._shell.read(store.find, ids) if with_payload and ids else page
            found.update((each.task, each) for each in rows if each.task not in live)
            if len(page) < JOB_PAGE:
                break
            before = page[-1].task
        return list(found.values())

    async def _control(self, client: str, scope: Scope, ask: Control, frames: list[Bytes]) -> Answer:
        core = self._shell.core
        match ask.verb:
            case "pause" | "resume":
                core.pause(ask.verb == "pause")
                self._finish()
            case "backup":
                path = Path(str(ask.arguments.get("path", "")))
                if not path.is_absolute():
                    raise Refused(
                        Code.INVALID, f"backup to {str(path)!r}: expected an absolute path on the controller's machine"
                    )
                await self._shell.read(self._shell.store.backup, path)
            case "forget":
                name = str(ask.arguments.get("edge", ""))
                if not core.fleet.forget(name, self._shell.now()):
                    here = name in core.state.runtimes
                    text = f"the edge {name!r} is here: stop its agent first" if here else f"no edge {name!r} is known"
                    raise Refused(Code.STATE if here else Code.NOT_FOUND, text)
                self._finish()
            case "check":
                health = await self._shell.read(self._shell.store.check)
                return ControllerState(ask.request, {"well": health.well, "findings": health.findings}, {}), []
            case "validate":
                core.validate()
            case "strategy" | "predictor":
                name = str(ask.arguments.get("name", ""))
                try:
                    if ask.verb == "strategy":
                        use_strategy(core.scheduler, name)
                    else:
                        use_predictor(core.scheduler, name, str(ask.arguments.get("table", "")) or self._lookup_table)
                except ValueError as error:
                    raise Refused(Code.INVALID, str(error)) from None
                self._finish()
            case _:
                raise Refused(
                    Code.INVALID,
                    f"verb {ask.verb!r}; expected one of {VERBS}",
                )
        return ControllerState(ask.request, {"done": ask.verb}, {}), []

    async def _blob_put(self, client: str, scope: Scope, ask: BlobPut, frames: list[Bytes]) -> Answer:
        data = frames[0] if frames else b""
        audience = self._shell.core.audience
        limit = audience.file_limit if ask.is_file else audience.payload_limit
        if ask.blob.size > limit:
            what, setting = ("file", "bus.file_limit") if ask.is_file else ("value", "bus.payload_limit")
            raise Refused(Code.TOO_LARGE, f"a {what} of {ask.blob.size} bytes; at most {limit} (setting {setting})")
        offset = await self._shell.put_blob(ask.blob, ask.offset, bytes(data))
        return BlobHave(ask.request, ask.blob, offset), []

    async def _blob_get(self, client: str, scope: Scope, ask: BlobGet, frames: list[Bytes]) -> Answer:
        length = max(0, min(ask.length, MAX_BLOB_PART))
        data = await self._shell.get_blob(ask.blob, ask.offset, length)
        return BlobPart(ask.request, ask.blob, ask.offset), [data]
