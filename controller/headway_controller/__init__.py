"""The brain: task life, placement, estimates, timers, and the store beside it.

``state``      the records that the controller keeps: tasks, clients, runtimes
``transitions`` the table of a task's life: what may follow what, and why
``effects``    what the core asks of the shell
``turn``       what one wake-up has gathered, sent and stored together at its end
``life``       tasks: submit, end, retry, cancel, dependencies, timers (pure)
``fleet``      runtimes: register, assign, reports, heartbeat, loss (pure)
``audience``   clients: who waits for what, and the delivery of ends (pure)
``core``       the three together (pure): events and the time go in, effects come out
``views``      what is shown of tasks and runtimes
``extensions`` strategies and predictors by name, a user's own among them
``placement``, ``estimates``  which runtime, and when
``store``      SQLite beside the core
``service``    the link, the timers, the store's thread: the only file that awaits
"""
