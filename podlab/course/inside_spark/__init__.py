"""Chapter 06: the exercises about Apache Spark, and the Spark that their checks ask."""
