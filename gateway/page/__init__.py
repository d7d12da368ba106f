"""A page to try the cluster with, and what it reads."""
