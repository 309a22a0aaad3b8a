"""``headway bench``: how fast the bus is on this machine, measured on a bus of its own, or on one that is named.

========== ==============================================================================================
plant      the bus that is measured: its processes, what they use of processor and memory
loads      throughput, round trips, payloads, commands
scale      memory of what waits, cost at a million, idle runtimes, placement, imports
recovery   how soon a killed hub serves again
players    many runtimes played by one process, honestly on the wire
crowd      many clients played by one process, the same way
figures    what was measured: median and spread
report     which of them there are, and the order
========== ==============================================================================================

Nothing of the ordinary client imports this.
"""
