"""Union tasks: one submission, one attempt on every runtime that matches, their results merged, round by round.

``progress`` is what is known of one union, ``decide`` says what is to be done next, and ``unions`` does it: it makes the
parts, which are ordinary tasks, each pinned to its runtime, and the merges, which are ordinary tasks that run anywhere.
"""

from headway_controller.unions.unions import Unions

__all__ = ["Unions"]
