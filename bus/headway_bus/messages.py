"""Every message on the bus, grouped by direction, with one union per direction.

A header is one of these records, msgpack-encoded as an array whose first element is the message's name in snake case.
``request`` numbers are chosen by whoever asks and come back in the answer. ``batch`` numbers count a hand-over: the
receiver acknowledges them, and the sender repeats a batch until that happens (see :mod:`headway_bus.handover`), so a
batch may arrive twice and must be harmless the second time.

docs/protocol.md says the same in words, for those who write a peer in another language; a test holds the two together.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from headway_bus.ids import TaskId
from headway_bus.records import (
    Blob,
    Code,
    Ended,
    Estimate,
    Held,
    JobInfo,
    LogRecord,
    Options,
    Outcome,
    Payload,
    QueueState,
    RuntimeInfo,
    RuntimeState,
    Started,
    Status,
    TaskInfo,
)

PROTOCOL_VERSION = 1


def tag_of(class_name: str) -> str:
    """A message's name on the wire: ``TasksEnded`` → ``tasks_ended``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


class Message(msgspec.Struct, frozen=True, array_like=True, gc=False, tag=tag_of):
    """Base of all messages."""


# ---------------------------------------------------------------------------------------------- any peer → broker


class Hello(Message, frozen=True):
    """The first message of a connection. Everything else is refused until it has been answered."""

    version: int
    role: str  # "client", "runtime", "edge", "controller", "admin"
    name: str  # wished for; the broker may refuse it, and an empty one asks for a made-up one
    instance: bytes  # 8 random bytes made when the process started: tells a return from an impostor
    software: str = ""
    heartbeat: float = 0.0  # seconds between signs of life that an edge wishes for; 0: as the broker has it


class Ping(Message, frozen=True):
    """Sent when nothing was heard for a heartbeat's interval. ``sent``: the sender's clock, returned as it is."""

    sent: float


class Bye(Message, frozen=True):
    """The peer leaves on purpose; nothing will follow."""

    reason: str = ""


class Subscribe(Message, frozen=True):
    """From now on, copies of what is published on these topics."""

    topics: list[str]


class Unsubscribe(Message, frozen=True):
    topics: list[str]


class AskBroker(Message, frozen=True):
    """What the broker knows of itself: peers and counters."""

    request: int


class Enrol(Message, frozen=True):
    """All that a peer may say whose key is not known: make it known. The key is the one that the connection was made with.

    Answered by :class:`Enrolled` or :class:`Rejected`.
    """

    version: int
    token: str  # from the invitation; good once
    name: str  # wished for


# ---------------------------------------------------------------------------------------------- broker → any peer


class Welcome(Message, frozen=True):
    """The answer to a hello that was accepted."""

    version: int
    name: str
    broker: bytes  # the broker's instance: another value means that it was restarted
    heartbeat: float  # seconds between signs of life that the broker expects
    max_message: int  # bytes of one message, all frames together
    controller: bytes = b""  # the controller's instance; empty: none is connected
    namespace: str = ""  # where the peer's tasks go if they name no other


class Enrolled(Message, frozen=True):
    """The key is known from now on, under this name and with this role. Connect anew and say hello."""

    name: str  # the one that was wished for
    role: str  # as the invitation says


class Rejected(Message, frozen=True):
    """A message was refused. ``request`` is 0 where none was readable. After a refused hello, say hello again or leave."""

    code: Code
    text: str
    request: int = 0


class Pong(Message, frozen=True):
    sent: float


class ControllerChanged(Message, frozen=True):
    """The controller came, went (empty instance), or was replaced."""

    controller: bytes


class Undeliverable(Message, frozen=True):
    """A message of yours could not be handed on: its target is not connected, or takes nothing at the moment."""

    target: str
    kind: str
    code: Code
    text: str = ""


class PeerChanged(Message, frozen=True):
    """To the controller: a peer came (``state`` "up"), left ("bye"), fell silent or was cut ("gone"), or may not come any
    more ("revoked")."""

    name: str
    role: str
    instance: bytes
    state: str
    labels: dict[str, str] = {}  # of a runtime's key: they count, whatever the runtime says of itself


class Peers(Message, frozen=True):
    """To the controller, after its welcome: everybody who is connected."""

    peers: list[PeerChanged]


class TopicsChanged(Message, frozen=True):
    """To the controller: topics that gained their first subscriber, and that lost their last."""

    added: list[str]
    removed: list[str]


class BrokerState(Message, frozen=True):
    request: int
    started: float
    peers: list[dict[str, Any]]
    counters: dict[str, int]


# ---------------------------------------------------------------------------------------------- client → controller


class Group(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Tasks that share their options: (id, payload) each."""

    options: Options
    tasks: list[tuple[TaskId, Payload]]


class Submit(Message, frozen=True):
    """New tasks. Repeated until :class:`Accepted` or :class:`Denied`; a known id is accepted and changes nothing."""

    request: int
    groups: list[Group]
    watch: bool = True  # tell me when they end
    again: bool = False  # this may have been sent before
    together: bool = False  # the acceptance may wait some milliseconds for the end, and come with it


class Await(Message, frozen=True):
    """Tell me when these end, at once if they have: what a client asks after a break."""

    request: int
    tasks: list[TaskId]


class Received(Message, frozen=True):
    """The :class:`TasksEnded` batches that have arrived."""

    batches: list[int]


class Cancel(Message, frozen=True):
    """Cancel tasks, or all the unfinished tasks of a job. Answered by :class:`Changed` when they are over."""

    request: int
    tasks: list[TaskId] = []
    job: str = ""


class RetryTasks(Message, frozen=True):
    """Run ended tasks again, with a fresh count of attempts."""

    request: int
    tasks: list[TaskId] = []
    job: str = ""


class Purge(Message, frozen=True):
    """Forget ended tasks and their results now."""

    request: int
    tasks: list[TaskId] = []
    job: str = ""


class Describe(Message, frozen=True):
    """Give a task another description, whatever its status; nothing else of it changes. The answer comes when it is stored."""

    request: int
    task: TaskId
    text: str


class DrainRuntime(Message, frozen=True):
    """Let a runtime finish what it runs and give it nothing new; ``resume`` takes that back."""

    request: int
    runtime: str
    resume: bool = False


class AskTasks(Message, frozen=True):
    """A page of tasks, newest first. ``before`` is the ``next`` of the page before."""

    request: int
    job: str = ""
    status: list[Status] = []
    queue: str = ""
    name: str = ""  # a shell-style pattern
    runtime: str = ""
    limit: int = 100
    before: TaskId = TaskId(b"")


class AskTask(Message, frozen=True):
    """Everything about one task. ``prefix``: the beginning of its id's text, or the caller's own key."""

    request: int
    prefix: str


class AskResult(Message, frozen=True):
    request: int
    task: TaskId


class AskLogs(Message, frozen=True):
    """Stored log records of a task, in order, from a position on."""

    request: int
    task: TaskId
    attempt: int = 0  # 0: all
    after: int = 0  # skip that many records
    limit: int = 1000


class AskJobs(Message, frozen=True):
    request: int
    job: str = ""


class AskRuntimes(Message, frozen=True):
    request: int


class AskQueues(Message, frozen=True):
    request: int
    target: str = ""


class AskEstimate(Message, frozen=True):
    """When would a task of these options start and end, were it submitted now?"""

    request: int
    options: Options


class AskExplain(Message, frozen=True):
    request: int
    task: TaskId


class AskController(Message, frozen=True):
    """What the controller knows of itself: version, store, counters, settings."""

    request: int


class Control(Message, frozen=True):
    """An operator's verb on the controller: pause, resume, strategy, predictor, backup … with its arguments."""

    request: int
    verb: str
    arguments: dict[str, Any] = {}


class BlobPut(Message, frozen=True):
    """A part of a blob, in payload frame 0. Answered by :class:`BlobHave`, which says how far the receiver is."""

    request: int
    blob: Blob
    offset: int
    is_file: bool = False  # of which more may be sent than of a value


class BlobGet(Message, frozen=True):
    """Ask for a part of a blob. Answered by :class:`BlobPart` or :class:`Denied`."""

    request: int
    blob: Blob
    offset: int
    length: int


# ---------------------------------------------------------------------------------------------- controller → client


class Accepted(Message, frozen=True):
    """Stored, in the mode that the operator chose. ``starts``: where and when the first of them will start."""

    request: int
    count: int
    known: int = 0  # of them were known before
    runtime: str = ""
    starts: Estimate | None = None


class Denied(Message, frozen=True):
    """Refused, whole: nothing of the request was done."""

    request: int
    code: Code
    text: str


class TasksEnded(Message, frozen=True):
    """Ends of tasks the client waits for. Payload frames belong to the outcomes whose result is an index."""

    batch: int
    outcomes: list[Outcome]
    accepted: list[Accepted] = []  # of submissions that said ``together``, answered by this


class Changed(Message, frozen=True):
    """The answer to cancel, retry, purge, drain: how many were changed, and what could not be, with the reason."""

    request: int
    count: int
    refused: list[tuple[str, str]] = []


class TaskPage(Message, frozen=True):
    request: int
    tasks: list[TaskInfo]
    next: TaskId = TaskId(b"")  # empty: this was the last page


class TaskFound(Message, frozen=True):
    request: int
    task: TaskInfo


class ResultFound(Message, frozen=True):
    request: int
    outcome: Outcome


class LogPage(Message, frozen=True):
    """``complete``: the task has ended and there are no further records after these."""

    request: int
    records: list[LogRecord]
    next: int
    complete: bool
    dropped: int = 0


class JobPage(Message, frozen=True):
    request: int
    jobs: list[JobInfo]


class RuntimePage(Message, frozen=True):
    request: int
    runtimes: list[RuntimeState]


class QueuePage(Message, frozen=True):
    """``scores``: how well earlier estimates held, by target."""

    request: int
    queues: list[QueueState]
    scores: dict[str, dict[str, float]] = {}


class EstimateFound(Message, frozen=True):
    request: int
    runtime: str
    starts: Estimate
    ends: Estimate


class Explained(Message, frozen=True):
    """Why a task is where it is: plain data, see docs/library.md."""

    request: int
    story: dict[str, Any]


class ControllerState(Message, frozen=True):
    request: int
    state: dict[str, Any]
    counters: dict[str, int]


class BlobHave(Message, frozen=True):
    """The receiver has the first ``offset`` bytes; ``offset == blob.size``: it has all and the hash is right."""

    request: int
    blob: Blob
    offset: int


class BlobPart(Message, frozen=True):
    """The part that was asked for, in payload frame 0."""

    request: int
    blob: Blob
    offset: int


class Event(Message, frozen=True):
    """Published on a topic: ``logs.<task>``, ``task.<task>``, ``job.<job>``, ``tasks``, ``queues``, ``runtimes``."""

    topic: str
    name: str
    data: dict[str, Any] = {}
    records: list[LogRecord] = []


# ---------------------------------------------------------------------------------------------- controller → runtime


class AssignGroup(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Attempts that share their options: (task, attempt, payload) each.

    ``gpus``: for each attempt the indices of the GPUs that are its own, in the runtime's list; empty where none needs any.
    """

    options: Options
    attempts: list[tuple[TaskId, int, Payload]]
    gpus: list[list[int]] = []


class Registered(Message, frozen=True):
    """The controller knows the runtime and has made its own view equal to what the runtime said it holds.

    ``stop`` are attempts that are no longer wanted; ``forget`` are ended ones that need not be reported (again);
    ``first`` is the number of the next assign batch: one that comes before it was overtaken, because the broker could not
    deliver those between, and is not to be taken in (0: it is not said).
    """

    controller: bytes
    stop: list[tuple[TaskId, int]] = []
    forget: list[tuple[TaskId, int]] = []
    first: int = 0
    unpacks: list[str] = []  # methods of :class:`Packed` that the controller can read


class Assign(Message, frozen=True):
    """Attempts to run, in this order."""

    batch: int
    groups: list[AssignGroup]


class Stop(Message, frozen=True):
    """End these attempts: those not started never do, running ones get TERM, after ``grace`` seconds KILL."""

    attempts: list[tuple[TaskId, int]]
    grace: float = -1.0  # below 0: as the task's options say
    reason: str = ""


class TakeBack(Message, frozen=True):
    """Return these attempts if they have not started; nothing happens to those that have."""

    attempts: list[tuple[TaskId, int]]


class Settled(Message, frozen=True):
    """The :class:`Report` batches that are stored: the runtime may forget what was in them."""

    batches: list[int]


class HeartbeatSeen(Message, frozen=True):
    sent: float  # as it was in the heartbeat


class SetDrain(Message, frozen=True):
    drain: bool


class SendInventory(Message, frozen=True):
    """The digests do not agree: send :class:`Register` again, with all that you hold."""

    why: str = ""


# ---------------------------------------------------------------------------------------------- runtime → controller


class Register(Message, frozen=True):
    """Who I am, what I offer, and everything I hold. Sent after every welcome, and when asked."""

    info: RuntimeInfo
    instance: bytes
    held: list[Held]
    assigned: int = 0  # the last assign batch that this inventory includes
    draining: bool = False
    heartbeat: float = 0.0  # seconds between its signs of life; 0: those of the welcome
    unpacks: list[str] = []  # methods of :class:`Packed` that the sender can read


class Heartbeat(Message, frozen=True):
    """A sign of life. ``digest`` is over all attempts held, after assign batch ``assigned`` and all reports so far."""

    sent: float
    assigned: int
    held: int
    digest: int
    free: float = 0.0
    round_trip: float = 0.0  # seconds, to the broker and back, smoothed
    load: dict[str, float] = {}


class Report(Message, frozen=True):
    """What happened on the runtime. Repeated until :class:`Settled`. Payload frames belong to ``ended``."""

    batch: int
    started: list[Started] = []
    ended: list[Ended] = []
    logs: list[LogRecord] = []
    dropped: dict[bytes, int] = {}  # log records dropped, by task


class RuntimeLeaving(Message, frozen=True):
    """The runtime drains and stops; unstarted work comes back in reports before this."""

    reason: str = ""


class Packed(Message, frozen=True):
    """Another message in a smaller form: payload frame 0, unpacked, is a msgpack array of its header and its payload frames.

    Between an edge and the controller, when the other side has said that it unpacks ``method``.
    """

    method: str  # "zstd"
    size: int  # bytes, unpacked


ToBroker = Hello | Ping | Bye | Subscribe | Unsubscribe | AskBroker | Enrol
FromBroker = (
    Welcome
    | Rejected
    | Pong
    | ControllerChanged
    | Undeliverable
    | PeerChanged
    | Peers
    | TopicsChanged
    | BrokerState
    | Enrolled
)
ClientToController = (
    Submit
    | Await
    | Received
    | Cancel
    | RetryTasks
    | Purge
    | Describe
    | DrainRuntime
    | AskTasks
    | AskTask
    | AskResult
    | AskLogs
    | AskJobs
    | AskRuntimes
    | AskQueues
    | AskEstimate
    | AskExplain
    | AskController
    | Control
    | BlobPut
    | BlobGet
)
ControllerToClient = (
    Accepted
    | Denied
    | TasksEnded
    | Changed
    | TaskPage
    | TaskFound
    | ResultFound
    | LogPage
    | JobPage
    | RuntimePage
    | QueuePage
    | EstimateFound
    | Explained
    | ControllerState
    | BlobHave
    | BlobPart
    | Event
)
ControllerToRuntime = (
    Registered
    | Assign
    | Stop
    | TakeBack
    | Settled
    | HeartbeatSeen
    | SetDrain
    | SendInventory
    | BlobHave
    | BlobPart
    | Denied
    | Packed
)
RuntimeToController = Register | Heartbeat | Report | RuntimeLeaving | BlobPut | BlobGet | Packed

CLIENT_RECEIVES = FromBroker | ControllerToClient
RUNTIME_RECEIVES = FromBroker | ControllerToRuntime
CONTROLLER_RECEIVES = FromBroker | ClientToController | RuntimeToController
BROKER_RECEIVES = ToBroker
