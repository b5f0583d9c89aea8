"""A frozen text-to-image model as functions of its arguments."""

from evoken.quiet import import_libraries

import_libraries()
