"""Losses of a population: in which chunks, and who computes them."""
