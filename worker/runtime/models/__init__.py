"""Model families: what differs between architectures, as data."""
