"""The runtime: runs attempts, and knows nothing of tasks, queues or other runtimes.

One process holds the connection and the books; a second one, the nursery, starts and ends every process; the user's
code runs in children of the nursery. A file a noun:

``state``      the records of the core
``core``       what happens when (pure): assignments, ends, stops, draining
``pool``       which attempt goes into which child, and when (pure)
``reports``    what the controller is told, until it has it (pure)
``effects``    what the core asks its shell to do
``service``    the only file that awaits and owns the connection
``transfers``  large arguments and results, part by part
``pipes``      messages on a pipe between the runtime and a process of its own
``children``   the runtime's end of its child processes
``child``      what runs inside one
``running``    one attempt inside a child: import, decode, call, encode
``journal``    what a child has done, in memory that survives its death
``commands``   shell lines and scripts
``nursery``    the process that starts, signals and reaps all others
``keeper``     the runtime's end of the nursery
``processes``  process trees: who belongs to whom, and how to end them
``output``     bytes to lines, with limits
``files``      folders, large values by hash
``resources``  what this machine offers
"""

from __future__ import annotations
