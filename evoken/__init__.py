"""evoken: teach a frozen text-to-image model a new word with forward passes only."""

__version__ = "0.1.0"
