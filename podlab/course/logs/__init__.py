"""Chapter 22: an incident whose every line is known, a log store that holds it, and the exercises on both."""
