"""The command line: ``main`` is what the command ``evoken`` runs."""

from evoken.cli.door import main as main
