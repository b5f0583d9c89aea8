"""Proof that the tests can fail: the ``campaign.mutants*`` figures."""
