"""What a conversion asks of the worker: is this source served, what does this model answer, what did rounding cost?

Never part of a serving process: `python -m worker.conversion …` answers one question each (`common.oneshot`).
"""
