"""A frozen text-to-image model as functions of its arguments."""
