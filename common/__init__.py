"""What router, worker, node agent and command line share. Knows none of them."""
