"""Live pictures in three parts: a pure model, a feeder thread, a thin view; each with a twin in words."""
