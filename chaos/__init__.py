"""The proving ground: real processes, faults by seed, a client that writes down every token, a checker."""
