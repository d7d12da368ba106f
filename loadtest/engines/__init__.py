"""Engines side by side, without a network: prefill and decode speed of ours and of others, in one run."""
