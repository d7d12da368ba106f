"""Clients for every door that cost far less per token than what they measure: raw sockets, nothing decoded."""
