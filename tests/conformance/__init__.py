"""Four clients, one judge: see README.md."""
