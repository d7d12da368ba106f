"""etcd as the registry: a thin asyncio client of our own (docs/adr/0002-own-etcd-client.md), a registrar, a watcher."""
