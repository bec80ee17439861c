"""Chapter 10: the exercises about what each of the five services promises."""
