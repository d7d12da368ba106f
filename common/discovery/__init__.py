"""How workers are announced and found: one interface, three registries (etcd, a directory, memory)."""
