"""The router's own core on a virtual clock, with simulated workers: policies compared, rules checked, by seed."""
