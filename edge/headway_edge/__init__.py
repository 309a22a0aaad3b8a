"""The edge agent: a runtime on a machine that nobody can dial, whose link breaks, and that loses neither work nor results.

It is the runtime of :mod:`headway_runtime` with a spool on disk: what it was given and what it has to tell is written down
before anybody is told that it is there. A file a noun:

``core``       what differs from any runtime: what is noted, what is begun while cut off, what a restart finds (pure)
``delivery``   what is to be told: gathered, spooled, sent in order through a window (pure)
``lease``      how long the agent has been out of touch, by clocks that may be wrong (pure)
``bucket``     how many bytes may go (pure)
``ledger``     what the core asks of the spool
``spool``      the spool: one SQLite file
``counter``    what an agent serves: messages to its plugins, files to and from it
``service``    the shell: the runtime's, with the spool before every door
"""

from __future__ import annotations
