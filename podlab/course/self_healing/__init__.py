"""The four exercises of chapter 15, one module each."""
