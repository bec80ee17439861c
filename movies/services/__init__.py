"""The parts that answer over HTTP, and to each other. See movies.contracts for their paths."""
