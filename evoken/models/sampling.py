"""How pictures are drawn where nobody says otherwise: the same of every model and command."""

STEPS = 25
GUIDANCE = 5.0
