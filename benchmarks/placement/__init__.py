"""What placement and estimates are worth: a simulated set of runtimes around the real scheduler and predictor.

``workloads``  tasks with their work and what is said about them, by seed
``scenarios``  the sets of runtimes, delays, loads and workloads that are measured
``simulator``  runtimes, links and events around :class:`headway_controller.placement.Scheduler`
``ideal``      the central queue with no delay in its knowledge, which every ratio is to
``cost``       what a decision costs, by the number of runtimes and of waiting tasks
``tables``     the figures as text
"""
