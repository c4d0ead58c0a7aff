"""Radiographs as networks see them, the same for every hospital."""
