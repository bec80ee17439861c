"""Chapter 09: the exercises about one process that holds everything, and what it costs to have more of it."""
