"""The native trainer: sharded steps, Adafactor, exact resume. Knows systems only by their protocol."""
