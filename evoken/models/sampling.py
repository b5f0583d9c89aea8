"""How pictures are drawn where nobody says otherwise, the same of every model and command; and how
much may be asked for.
"""

from evoken.options import in_range

STEPS = 25
GUIDANCE = 5.0
MOST = 1000  # pictures at once, sampling steps, guidance


def check_sampling(count: int, steps: int = STEPS, guidance: float = GUIDANCE) -> None:
    """Raise ``SettingError`` for so many pictures or steps, or so much guidance, that nobody can
    mean it.
    """
    in_range("count", count, 1, MOST)
    in_range("steps", steps, 1, MOST)
    in_range("guidance", guidance, 1, MOST)  # below, it would point away from the prompt
