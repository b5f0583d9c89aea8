"""Proof that nothing is lost and nothing leaks: the ``campaign.*`` figures."""
