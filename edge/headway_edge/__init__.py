"""The edge agent: a runtime on a machine that nobody can dial, whose link breaks, and that loses neither work nor results.

It is the runtime of :mod:`headway_runtime` with a spool on disk: what it was given and what it has to tell is written down
before anybody is told that it is there. A file a noun:

``service``    the shell: the runtime's, with the spool opened before it and read after a restart
"""

from __future__ import annotations
