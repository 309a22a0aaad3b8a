"""Batches: a file that says which jobs, one command that runs them, and a folder where their output lies.

::

    reading    a file of JSON, TOML or YAML as plain data, with errors that say line and column
    config     the records of a batch file, checked
    template   a grid of parameters into jobs
    names      names that people choose, as names of files
    content    what makes a job the same as the last time
    folder     the batch's folder: its files, its lock
    script     a job's run.sh
    preparing  a job's folder before the start
    book       who is where: the state of a run, without files or sockets
    runner     the run itself, on a bus
    remote     machines over SSH
    callbacks  what a program may hear of a run
    batch      the Python face: Batch, run_batch

A batch is a job of command tasks on the bus, and nothing beside it. docs/batches.md tells it from the user's side.
"""
