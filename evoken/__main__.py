"""``python -m evoken`` is the command ``evoken``."""

from evoken.cli import main

if __name__ == "__main__":
    main()
