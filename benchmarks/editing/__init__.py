"""Editing: how well each editor changes what was asked, and how little else."""
