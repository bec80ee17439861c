"""Chapter 03, The lead node: the exercises, one module each, and what they stand on."""
