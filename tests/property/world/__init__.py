"""A simulated world: the real cores of every service on one queue of events and one clock, from one seed.

What is real: the cores of broker, controller, runtime and client, the session, the hand-overs, the codec (every message
travels as bytes). What is simulated is what the shells own: sockets, timers, the store, child processes, the user's code.
Over that world faults are poured; when they end, it must come to rest with every promise kept.

``python -m tests.property.world --seeds 1000`` runs many, ``--seed 7 --trace`` shows one.

``timeline``     the clock, the queue of events, processes that are killed and suspended
``network``      connections: in order, late, cut, partitioned, full
``wire``         a peer's end of its connection (what :mod:`headway_bus.link` is to a socket)
``disk``         what a store has committed, and the store around it
``hub``          broker and controller
``children``     child processes and commands, and what runs in them
``machine``      a runtime
``application``  a client, and the program that uses it
``plan``         what a seed decides: how large the world is, which work comes, which faults
``ledger``       what is seen from outside: executions, ends told, acceptances
``promises``     what must hold at the end
``mutations``    defects put in on purpose: each must be found
``world``        all of it together
"""
