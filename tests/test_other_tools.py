"""What loads where: each program's own rules on every kind of file, as docs/formats.md has it."""
