"""The verbs: where each one's code is, and one line on it, so that ``headway --help`` need not import them.

A test holds the lines against the commands' own help. Verbs that other packages bring are found through the entry
point group ``headway.commands``; the lines for the ones that come with headway stand here too, for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass

ENTRY_POINT_GROUP = "headway.commands"


@dataclass(frozen=True)
class Verb:
    """``place`` is "module:attribute"; empty where an entry point says it."""

    name: str
    place: str
    summary: str


SECTIONS: dict[str, tuple[Verb, ...]] = {
    "Begin": (
        Verb("demo", "headway.cli.demo:demo", "Run real work on a bus of its own and compare with published figures."),
        Verb("up", "headway.cli.up:up", "Keep a bus running on this machine."),
        Verb("doctor", "headway.cli.doctor:doctor", "Say what is wrong with this set-up, and what to do."),
        Verb("bench", "headway.cli.bench:bench", "Measure how fast the bus is on this machine."),
    ),
    "Give work": (
        Verb("submit", "headway.cli.submit:submit", "Run a Python callable as a task."),
        Verb("run-command", "headway.cli.submit:run_command", "Run a shell command line as a task."),
        Verb("script", "headway.cli.submit:script", "Run a Python script, uploaded with its files, as a task."),
        Verb(
            "bundle",
            "headway.cli.bundles:bundle",
            "Run a script with all that it needs: a file, a folder, a zip or a git repository.",
        ),
        Verb("deploy", "headway.cli.bundles:deploy", "Bring a file that a task left to every runtime that matches."),
        Verb("estimate", "headway.cli.submit:estimate", "Ask when a task would start, without submitting it."),
    ),
    "Batches": (
        Verb("run", "headway.cli.run:run", "Run a batch of jobs from a file."),
        Verb(
            "generate",
            "headway.cli.generate:generate",
            "Generate a batch file from a template: every combination of its parameters.",
        ),
        Verb("batch", "headway.cli.batch:batch", "Show the batches that were run, from their folders."),
        Verb("job", "headway.cli.job:job", "List, describe and kill the jobs of a batch, and print their output."),
        Verb("plot", "headway.cli.plot:plot", "Draw a batch: who ran what when, elapsed times, states."),
    ),
    "See": (
        Verb("ps", "headway.cli.listing:ps", "List tasks, newest first."),
        Verb("show", "headway.cli.one:show", "Show everything about one task, with its story."),
        Verb("logs", "headway.cli.one:logs", "Print a task's output."),
        Verb("outputs", "headway.cli.bundles:outputs", "List the files that a task left, or write them into a folder."),
        Verb("union", "headway.cli.union:union", "Show a union: its edges, its rounds, who is missing."),
        Verb("explain", "headway.cli.one:explain", "Say why a task is where it is, and what it waits for."),
        Verb("jobs", "headway.cli.listing:jobs", "List jobs and how far they are."),
        Verb("runtimes", "headway.cli.machines:runtimes", "List the runtimes and what they do."),
        Verb("edges", "headway.cli.edge:edges", "List the edges: here or away, since when, what they hold."),
        Verb("queues", "headway.cli.machines:queues", "Show the expected waiting times."),
    ),
    "Change": (
        Verb("cancel", "headway.cli.change:cancel", "Cancel tasks, or all the unfinished tasks of a job."),
        Verb("retry", "headway.cli.change:retry", "Run ended tasks again."),
        Verb("purge", "headway.cli.change:purge", "Forget ended tasks and their results."),
        Verb("describe", "headway.cli.change:describe", "Give a task another description."),
        Verb("drain", "headway.cli.change:drain", "Let a runtime finish what it runs and give it nothing new."),
        Verb("switch", "headway.cli.change:switch", "Place or estimate tasks in another way."),
        Verb("backup", "headway.cli.change:backup", "Copy the controller's store to a file while it runs."),
    ),
    "Beyond this machine": (
        Verb("keys", "headway.cli.keys:keys", "Make, list and revoke the keys of a bus, and invite machines to it."),
    ),
    "Run the parts alone": (
        Verb("broker", "", "Run the broker."),
        Verb("controller", "", "Run the controller."),
        Verb("runtime", "", "Run a runtime."),
        Verb("edge", "", "Run an edge agent."),
    ),
}

VERBS: dict[str, Verb] = {verb.name: verb for verbs in SECTIONS.values() for verb in verbs}
