"""What every surface does with a request before anything else: parse the bytes, check the bounds."""
