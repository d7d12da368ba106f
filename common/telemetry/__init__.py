"""Traces and metrics: set up once per process, injected everywhere, named in one place."""
