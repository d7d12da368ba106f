"""Generators of the training and test text. Pure standard library, deterministic by seed."""
