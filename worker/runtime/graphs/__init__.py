"""An exported graph: checked against its configuration, then edited into the one that runs."""
