"""The node agent: starts, watches, restarts and stops the processes of a cluster on this machine."""
