"""Execution providers: where a graph is computed."""
