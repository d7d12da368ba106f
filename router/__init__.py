"""The front door: finds workers, chooses one per call, relays its stream."""
