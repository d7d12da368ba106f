"""A small HTTP/1.1 client for the front door: no pool, no redirects, no proxies; one connection, kept open."""
