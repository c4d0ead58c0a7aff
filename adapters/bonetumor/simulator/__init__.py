"""A small archive and a small EHR on loopback, for the demo and for dry runs.

They speak the real protocols and keep what they are given; they are no products.
"""
