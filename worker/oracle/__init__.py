"""The oracle engine: `common.oracle` in the place of a model, for tests of everything around it. Never for answers."""
