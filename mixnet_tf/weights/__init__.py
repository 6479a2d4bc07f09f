"""Weights made elsewhere: read safely, named, laid out, loaded."""
