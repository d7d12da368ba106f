"""The command line asks HTTP doors: httpx2, with limits on all that comes and goes."""
