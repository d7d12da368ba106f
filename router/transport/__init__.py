"""Towards the clients: thin surfaces that parse, ask the dispatcher and encode."""
