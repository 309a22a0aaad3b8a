"""Machines that are reached over SSH: each gets a runtime of the batch's private bus for as long as the batch runs.

::

    ssh        the connection: keys, passwords, host keys, and what went wrong in words
    helper     the program that runs there: standard library only, sent through the connection, gone with it
    frames     what the two say to each other
    cargo      what has to be there: headway's own code, packages that are missing, the jobs' assets
    machine    one machine, from the connection to its end
    machines   all of them: who is up, who is set aside and when it is tried again

A machine needs an SSH server, a shell and Python. The bus goes through the connection as a socket in a folder that only the
user can enter, so no port is opened on either side.
"""
