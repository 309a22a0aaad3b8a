"""One example of every message and every form of a payload: the examples in docs/protocol.md, and its test vectors."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from headway_bus import messages as m
from headway_bus import records as r
from headway_bus.ids import TaskId, digest_of, text_of
from headway_bus.payloads import encode, encode_call

TASK = TaskId(bytes.fromhex("018bcfe56800a1a2a3a4a5a6a7a8a9aa"))
OTHER = TaskId(bytes.fromhex("018bcfe56801b1b2b3b4b5b6b7b8b9ba"))
INSTANCE = bytes.fromhex("0102030405060708")
CONTROLLER = bytes.fromhex("c0c1c2c3c4c5c6c7")
BROKER = bytes.fromhex("b0b1b2b3b4b5b6b7")
NOON = 1_700_000_000.0
BATCH = 1001
CALL = encode_call([81.0], {})
NINE = encode(9.0)
BLOB = r.Blob(bytes(range(32)), 104_857_600)
OPTIONS = r.Options(r.Kind.CALL, "math:sqrt", job="roots", priority=5)
COMMAND = r.Options(
    r.Kind.COMMAND,
    "wc -l weekly.csv",
    name="count",
    requirements=r.Requirements(1.0, memory=1_073_741_824, labels={"zone": "lab"}),
    retry=r.Retry(3, on=["OSError"]),
    after=[OTHER],
    timeout_run=60.0,
    meta={"lines": 1200},
)
ESTIMATE = r.Estimate(1.5, 0.25, 1.4, 2.0)
RUNTIME = r.RuntimeInfo("box-1", 4.0, 4.0, 8_589_934_592, labels={"zone": "lab"}, host="box", pid=4711, python="3.11.7")
ERROR = r.ErrorInfo(r.Reason.EXCEPTION, "math domain error", "builtins.ValueError", bases=["ValueError", "Exception"])
LOG = r.LogRecord(TASK, 1, 0, "metric", NOON, "loss", {"value": 0.5, "step": 3})
INFO = r.TaskInfo(TASK, r.Status.RUNNING, OPTIONS, 1, NOON, NOON + 1, runtime="box-1", client="client-1")
STORY = r.Transition(NOON, "queued", "submitted")

MESSAGES: list[m.Message] = [
    m.Hello(m.PROTOCOL_VERSION, "runtime", "box-1", INSTANCE, "headway"),
    m.Ping(12.5),
    m.Bye("drained"),
    m.Subscribe(["job.roots"]),
    m.Unsubscribe(["job.roots"]),
    m.AskBroker(7),
    m.Enrol(m.PROTOCOL_VERSION, "nXq6U0Zp1mPq7l3rVQb0d8sJf2kTzWcE", "box-1"),
    m.Welcome(m.PROTOCOL_VERSION, "box-1", BROKER, 2.0, 67_108_864, CONTROLLER),
    m.Rejected(r.Code.NAME_TAKEN, "the name 'box-1' is taken by a peer that is connected"),
    m.Pong(12.5),
    m.Enrolled("box-1", "runtime"),
    m.ControllerChanged(CONTROLLER),
    m.Undeliverable("controller", "submit", r.Code.NO_CONTROLLER, "nobody of that name is connected"),
    m.PeerChanged("box-1", "runtime", INSTANCE, "gone"),
    m.Peers([m.PeerChanged("box-1", "runtime", INSTANCE, "up")]),
    m.TopicsChanged(["job.roots"], []),
    m.BrokerState(7, 3600.0, [{"name": "box-1", "role": "runtime"}], {"forwarded": 12}),
    m.Submit(1, [m.Group(OPTIONS, [(TASK, CALL), (OTHER, 0)])]),
    m.Await(2, [TASK]),
    m.Received([BATCH]),
    m.Cancel(3, [TASK]),
    m.RetryTasks(4, job="roots"),
    m.Purge(5, job="roots"),
    m.Describe(21, TASK, "the one for the paper"),
    m.DrainRuntime(6, "box-1"),
    m.AskTasks(8, "roots", [r.Status.FAILED], limit=20),
    m.AskTask(9, text_of(TASK)[:8]),
    m.AskResult(10, TASK),
    m.AskLogs(11, TASK, after=100),
    m.AskJobs(12),
    m.AskRuntimes(13),
    m.AskQueues(14, "math:sqrt"),
    m.AskEstimate(15, OPTIONS),
    m.AskExplain(16, TASK),
    m.AskController(17),
    m.Control(18, "pause"),
    m.BlobPut(19, BLOB, 1_048_576),
    m.BlobGet(20, BLOB, 0, 1_048_576),
    m.Accepted(1, 2, 0, "box-1", ESTIMATE),
    m.Denied(1, r.Code.INVALID, "target: 'sqrt' is not an import path; expected package.module:function"),
    m.TasksEnded(
        BATCH,
        [
            r.Outcome(TASK, r.Status.SUCCEEDED, 1, NINE, runtime="box-1", waited=0.5, ran=0.001, predicted=0.4),
            r.Outcome(OTHER, r.Status.FAILED, 3, error=ERROR, runtime="box-1"),
        ],
    ),
    m.Changed(3, 1, [(text_of(TASK), "it has ended already")]),
    m.TaskPage(8, [INFO]),
    m.TaskFound(9, INFO),
    m.ResultFound(10, r.Outcome(TASK, r.Status.SUCCEEDED, 1, NINE)),
    m.LogPage(11, [LOG], 101, False),
    m.JobPage(12, [r.JobInfo("roots", {"succeeded": 9, "failed": 1}, NOON, NOON + 60)]),
    m.RuntimePage(13, [r.RuntimeState(RUNTIME, "online", NOON, NOON + 60, running=4, drain=ESTIMATE)]),
    m.QueuePage(14, [r.QueueState("box-1", "math:sqrt", ESTIMATE, 10, 4, 4)], {"math:sqrt": {"p90": 0.91}}),
    m.EstimateFound(15, "box-1", ESTIMATE, r.Estimate(1.6, 0.25)),
    m.Explained(16, {"why": "box-2 lacks the label zone=lab"}),
    m.ControllerState(17, {"version": "0.1.0"}, {"tasks.accepted": 10}),
    m.BlobHave(19, BLOB, 2_097_152),
    m.BlobPart(20, BLOB, 0),
    m.Event("job.roots", "progress", {"counts": {"succeeded": 9}}),
    m.Registered(CONTROLLER, [(TASK, 1)], [(OTHER, 2)], 7),
    m.Assign(BATCH, [m.AssignGroup(COMMAND, [(TASK, 2, 0)])]),
    m.Stop([(TASK, 2)], 5.0, "cancelled by client-1"),
    m.TakeBack([(TASK, 2)]),
    m.Settled([BATCH]),
    m.HeartbeatSeen(12.5),
    m.SetDrain(True),
    m.SendInventory("the digests differ"),
    m.Register(RUNTIME, INSTANCE, [r.Held(TASK, 2, "running", 3.5), r.Held(OTHER, 1, "held")], BATCH),
    m.Heartbeat(12.5, BATCH, 1, digest_of(TASK, 2), 3.0, 0.0004, {"cpu": 0.25}),
    m.Report(
        BATCH,
        [r.Started(TASK, 2, 0.01)],
        [r.Ended(OTHER, 1, r.AttemptEnd.SUCCEEDED, 0.001, NINE), r.Ended(TASK, 2, r.AttemptEnd.FAILED, 0.5, 0, ERROR)],
        [LOG],
        {OTHER: 12},
    ),
    m.RuntimeLeaving("asked to stop"),
    m.Packed("zstd", 2_048),
]
"""One of each; fields that are left at their defaults are on the wire all the same."""

PAYLOADS: list[tuple[str, Any]] = [
    ("nothing", None),
    ("an integer of 64 bits", -5),
    ("text", "grün"),
    ("bytes", b"\x00\xff"),
    ("a list and a map", [1, {"k": 2.5}]),
    ("tuple", (1, "a")),
    ("set", {7}),
    ("frozenset", frozenset(["x"])),
    ("complex", 1 - 2j),
    ("integer beyond 64 bits", 2**64),
    ("negative integer beyond 64 bits", -(2**64)),
    ("decimal", Decimal("-1.50")),
    ("uuid", UUID("12345678-1234-5678-1234-567812345678")),
    ("datetime without a zone", datetime(2024, 2, 29, 12, 30, 1, 5)),
    ("datetime in UTC", datetime(2024, 2, 29, 12, 30, tzinfo=UTC)),
    ("datetime with an offset", datetime(2024, 2, 29, 12, 30, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
    ("datetime in a zone, second of two", datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)),
    ("date", date(1969, 12, 31)),
    ("time", time(23, 59, 59, 1)),
    ("timedelta", timedelta(days=-1, seconds=1)),
    ("path", Path("data/weekly.csv")),
    ("numpy array", np.arange(6, dtype="<i2").reshape(2, 3)),
    ("numpy array of times", np.array(["2024-01-01"], dtype="<M8[D]")),
    ("numpy scalar", np.float32(1.5)),
    ("pandas series", pd.Series([1.5, 2.5], index=pd.RangeIndex(2), name="y")),
    ("pandas data frame", pd.DataFrame({"a": np.array([1, 2], dtype="<i8")}, index=pd.Index(np.array([3, 4], "<i8")))),
    ("pandas timestamp", pd.Timestamp("2024-07-01", tz="Europe/Berlin").as_unit("ns")),
]

CALLS: list[tuple[str, list[Any], dict[str, Any], dict[str, Any]]] = [
    ("no arguments", [], {}, {}),
    ("math:sqrt of 81", [81.0], {}, {}),
    ("a named argument and a tuple", [(1, 2)], {"key": "x"}, {}),
    ("a command", [], {}, {"params": {"file": "a b.txt"}, "env": {"LANG": "C"}, "cwd": "/data"}),
]
