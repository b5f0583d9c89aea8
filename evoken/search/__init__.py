"""Optimizers on coords: they see coordinates and losses, never vectors or images."""
