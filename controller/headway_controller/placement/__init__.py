"""Which queued task goes to which runtime, when, and why. Pure: time is an argument, nothing is awaited.

The controller's core keeps the tasks and their lives; :class:`Scheduler` keeps order, books and estimates. ``now`` is
the controller's clock in seconds (any origin, but one), ``age`` the seconds between an event and the report of it.

::

    scheduler = Scheduler()                              # or Scheduler(LearnedPredictor.from_state(stored))
    scheduler.add_runtime(info, now, round_trip)         # also when it registers anew: what is booked there stays
    scheduler.update_runtime(name, now, round_trip)      # a heartbeat measured something
    scheduler.drain(name, True)                          # nothing new for it
    scheduler.set_aside(name, why, until)                # likewise, until a time
    scheduler.remove_runtime(name) -> task ids           # gone; enqueue anew what shall run again

    scheduler.enqueue(task, options, now)                # queued since `now`: its own earlier time if it comes back
    scheduler.enqueue_many(options, tasks, now)          # a `map`: one entry for all of them
    scheduler.remove(task, options)                      # cancelled or expired WHILE QUEUED, and only then

    for commit in scheduler.dispatch(now):               # after every turn in which something happened
        send(commit.runtime, commit.options, commit.tasks)      # they are booked there already

    scheduler.started_many(runtime, [(task, age)], now)  # or started(runtime, task, options, now, age), which adopts
    scheduler.finished_many(runtime, [(task, seconds)], now)    # seconds < 0: do not learn from it (failed, killed)
    scheduler.returned(runtime, task, now)               # given back unstarted; then enqueue(...) it
    scheduler.start_failed(runtime, task, now, why)      # instead of finished: counts against the machine
    scheduler.adopt(runtime, task, options, now, age)    # a runtime holds it, nobody booked it; age None: not started
    scheduler.notices()                                  # what an operator should see

Pass the same ``Options`` object for tasks that share it: what is known of it is found by its identity.

``scheduler``    the above
``backlog``      all that waits: a lane for each demand, and plans
``lanes``        the queued tasks of one demand in order
``dispatcher``   what is committed now
``contest``      whose turn it is, among lanes for which somebody has room
``work``         what tasks that are alike share
``eligibility``  who may run a task at all
``resources``    what a runtime has and what is taken of it
``book``         what one runtime has been given, and when it will have room
``credit``       how much may be committed ahead
``fleet``        the runtimes' books, and who has room for what
``pools``        runtimes that are alike, and who of them has room
``takeback``     what is asked back, for a runtime that is free
``binding``      the strategy in use; ``strategies`` by name, ``views`` that they see, ``plans`` that they make
``catalogue``    from a task's options to its work
``outlook``      what can be asked of the future: ``forecast`` reckons, ``waits`` calibrates and scores
``explanation``  why a task is where it is
"""

from headway_controller.placement.dispatcher import Commit
from headway_controller.placement.scheduler import BATCH_INTERVAL, Notice, Scheduler
from headway_controller.placement.turnaround import Turnarounds
from headway_controller.placement.waits import Waits

__all__ = ["BATCH_INTERVAL", "Commit", "Notice", "Scheduler", "Turnarounds", "Waits"]
