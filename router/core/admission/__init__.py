"""Who may go on to a worker now, who waits and in what order, who is told to come back. No I/O.

gate.py        what the dispatcher enters: one context around each call
line.py        one model's tickets and those who wait for one
fair_band.py   the order inside a priority: deficit round robin between callers
speed.py       how fast places come free, learned from calls that ended
capacity.py    how many rows the workers of a model have for this router
"""
