"""The exercises of chapter 14, A cluster and its API: one module for each, with its scene and its checks."""

LESSON = "notebooks/14-cluster-and-api.ipynb"
