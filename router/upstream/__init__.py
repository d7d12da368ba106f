"""Towards the workers: channels, calls, load streams, membership."""
