"""What stands at which address."""
