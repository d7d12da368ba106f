"""Constraints → what may be drawn next: the only importer of llguidance.

constraint ──> trial (another process) ──> compiled here ──> a matcher per choice ──> a mask per token
"""
