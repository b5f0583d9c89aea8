"""The command line: ``main`` is what the command ``evoken`` runs."""

from evoken.cli.app import main as main
