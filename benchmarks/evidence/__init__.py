"""Words of every method that can be had, side by side."""
