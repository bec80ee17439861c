"""Chapter 21: histories of traffic whose truth is known, a Prometheus that holds them, and the exercises on it."""
