"""Choosing an endpoint: filter, score, pick, over an immutable snapshot. A policy idea is one file and one line."""
