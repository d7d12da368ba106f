"""Several router processes behind one port: a parent that keeps them running, children that serve."""
