"""The course: exercises by chapter, the programs they run in pods, and the builder of its notebooks."""
