"""Chapter 05: the exercises about MapReduce."""
