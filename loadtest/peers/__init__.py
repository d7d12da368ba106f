"""What it takes to measure other engines: random models in real shapes, in everybody's format, and one script."""
