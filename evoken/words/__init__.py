"""Learned words: what one is, and the files of every program that reads them."""
