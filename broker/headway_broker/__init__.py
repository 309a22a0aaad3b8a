"""The hub: who is connected, who may speak to whom, routing, fan-out. It knows no task.

``state`` (peers and counters) · ``permissions`` (who may say what to whom) · ``core`` (pure) · ``service`` (the socket) ·
``__main__`` (``headway broker``).
"""
