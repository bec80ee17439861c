"""Chapter 11: the exercises about services that do not answer."""
