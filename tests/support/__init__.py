"""Fakes, builders and fixtures that several suites share."""
