"""Scripts that measure, and that write every figure which README and docs quote."""
