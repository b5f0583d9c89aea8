"""``python -m evoken`` is the command ``evoken``."""

from evoken.cli import main

main()
