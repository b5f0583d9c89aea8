"""A frozen text-to-image model as functions of its arguments."""

from evoken.quiet import quiet_libraries

quiet_libraries()
