"""The check engine: exercises, checks that observe behaviour, four verdicts, results as JSON."""
