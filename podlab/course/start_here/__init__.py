"""The exercises of chapter 00, Start here: one module for each, with its scene and its visible checks."""

LESSON = "notebooks/00-start-here.ipynb"
