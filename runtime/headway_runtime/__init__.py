"""The runtime: runs attempts, and knows nothing of tasks, queues or other runtimes.

One process holds the connection and the books; a second one, the nursery, starts and ends every process; the user's
code runs in children of the nursery. A file a noun:

``state``      the records of the core
``core``       what happens when (pure): assignments, ends, stops, draining
``presence``   registration and heartbeats (pure)
``pool``       which attempt goes into which child, and when (pure)
``reports``    what the controller is told, until it has it (pure)
``specs``      what attempts of equal options share (pure)
``refusals``   what is not run here (pure)
``departure``  how far leaving has come (pure)
``views``      looks at the books that change nothing (pure)
``checks``     what must always hold (pure)
``effects``    what the core asks its shell to do
``service``    the only file that awaits and owns the connection
``settings``   the command line's options and the settings, and the set-up made of them
``transfers``  large arguments and results, part by part
``pipes``      messages on a pipe between the runtime and a process of its own
``children``   the runtime's end of its child processes
``child``      what runs inside one
``capture``    its standard output and error
``running``    one attempt inside a child: import, decode, call, encode
``orders``     what the runtime and a child say to each other
``journal``    what a child has done, in memory that survives its death
``commands``   shell lines and scripts
``nursery``    the process that starts, signals and reaps all others
``errands``    what the two say to each other
``keeper``     the runtime's end of the nursery
``processes``  process trees: who belongs to whom, and how to end them
``output``     bytes to lines, with limits
``files``      folders, large values by hash
``resources``  what this machine offers
"""

from __future__ import annotations
