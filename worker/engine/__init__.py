"""The engine: which sequence computes what, when. Pure Python; one thread owns it; no I/O, no arrays."""
