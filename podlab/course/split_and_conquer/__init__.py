"""Chapter 01: the exercises about dividing work among workers."""
