"""Weights by name, version and SHA-256."""
