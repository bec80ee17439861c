"""Movies and what people do with them: generated, or read from the user's own files."""
