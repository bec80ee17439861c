"""Programs that run in pods, each one file of the standard library, so that any image with Python can run them."""
