"""A soak: after minutes of random work a worker must hold no more memory, files, threads or tasks than before."""
