"""Training and searching on a bus.

::

    job        what is to be trained, checked
    trial      what runs on a runtime; numpy and no more
    drive      a study and what runs its trials, until it is done
    objectives what a trial runs: a function, a command, a script
    searching  search: anything that a runtime runs as an objective
    training   train: a file of series
    report     results.json and forecasts.csv
    pictures   report.html and the pictures of some series
"""
