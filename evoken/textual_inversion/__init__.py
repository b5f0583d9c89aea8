"""Gradient-free textual inversion (Fei et al. 2023): a new word from a few images."""
