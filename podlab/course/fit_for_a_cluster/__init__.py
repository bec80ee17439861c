"""Chapter 12: the exercises about programs that somebody else may run."""
