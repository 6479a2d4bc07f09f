"""Training a classifier: its numbers, its folder, the loop around ``fit``."""
