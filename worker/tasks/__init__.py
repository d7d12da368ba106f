"""Tasks turn a parsed request into results: tokens in and out of the engine, text in and out of tokens."""
