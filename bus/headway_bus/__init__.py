"""The wire of headway: what every service and every client shares, and nothing that only one of them needs.

Imports none of the other packages. A file a noun:

``ids``        what tasks, attempts, batches and peers are called
``records``    the plain records that travel inside messages: options, outcomes, what a runtime offers
``messages``   every message, grouped by direction
``codec``      headers to bytes and back, with the limits that keep a hostile header from hurting
``payloads``   the users' own values to bytes and back
``endpoint``   a raw ZeroMQ socket on the event loop
``session``    a peer's connection to the broker: hello, heartbeat, back-off (pure)
``link``       the shell around ``session``: what a service holds in its hand
``handover``   numbered batches that are repeated until they are acknowledged (pure)
``task_context``  what a running task knows of itself
``config``     ``config.toml``, environment, defaults
``logs``       structlog, set up the same way everywhere
``errors``     the one tree of errors
"""
