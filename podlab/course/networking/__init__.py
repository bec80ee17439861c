"""The exercises of chapter 16, Networking and load balancing: one module for each, with its scene and its checks."""
