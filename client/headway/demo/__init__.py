"""``headway demo``: real series, real work, and published figures to hold the outcome against.

:mod:`methods` holds the numerics (numpy and nothing else of ours: it is what the tasks import), :mod:`data` reads the
series, :mod:`scores` holds the figures against the published ones, :mod:`run` puts the work on a bus.
"""
