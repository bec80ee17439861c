"""Grading: answers transplanted, run in a box, checked from outside on a cluster of their own, booked by nbgrader."""
