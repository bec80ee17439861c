"""A hostile class: a small course, and submissions that try to cheat, to break out, or to break the grader."""
