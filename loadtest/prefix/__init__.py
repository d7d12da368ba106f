"""What prefix affinity finds in real clusters: four oracle workers, beside a cache that knows everything."""
