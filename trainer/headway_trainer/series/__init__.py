"""One file of many series, read once: columns, dates, steps, and a policy for each defect.

::

    columns   which columns are meant
    dates     text to moments, and the step between them
    record    what a series is
    table     the file as columns of numbers
    delimited, parquet   its two forms; pandas is imported there and nowhere else
    repair    defects, policies, statuses
    reading   all of it: a file to a list of series
    leaks     features that already know the answer
"""

from __future__ import annotations

from headway_trainer.series.leaks import check_leaks
from headway_trainer.series.reading import read_series
from headway_trainer.series.record import Columns, Policies, Series

__all__ = ["Columns", "Policies", "Series", "check_leaks", "read_series"]
