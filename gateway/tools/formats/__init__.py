"""How models write calls: one file per format, each with a reader and what a grammar must know of it."""
