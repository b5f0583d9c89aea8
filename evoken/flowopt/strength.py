"""How far an edit goes and with which noise: what tells the pictures of a strip apart."""

from dataclasses import dataclass
from typing import NamedTuple

from evoken.errors import SettingError, shown
from evoken.options import in_range

MOST = 1000  # guidance, and steps


def exact(value: float) -> str:
    """A number in as few digits as tell it from all others, whole ones without a point."""
    return repr(float(value)).removesuffix(".0")


@dataclass(frozen=True)
class Strength:
    """How far an edit goes.

    Attributes:
        guidance: classifier-free guidance of the target prompt; 1 means none.
        last: how many of the last steps are walked again; 0 means all.
        fresh: share of the noise that is drawn anew, at every level.
    """

    guidance: float
    last: int
    fresh: float = 0.0

    @classmethod
    def read(cls, text: str, fresh: float = 0.0) -> "Strength":
        """From "GUIDANCE:LAST" or "GUIDANCE:LAST:FRESH".

        Args:
            fresh: where the text does not say.

        Raises:
            SettingError: it is nothing of the kind, or a number is out of its range.
        """
        parts = (*text.split(":"), exact(fresh))[:3] if 1 <= text.count(":") <= 2 else ("?",) * 3
        try:
            found = cls(float(parts[0]), int(parts[1]), float(parts[2]) + 0.0)  # never -0
        except ValueError:
            raise SettingError(
                f"a strength must be guidance, last steps and, if wanted, fresh noise (got "
                f"{shown(text, 60)}).",
                "Write it like 4:12 or 4:12:0.5.",
            ) from None
        in_range("guidance", found.guidance, 1, MOST)
        in_range("last", found.last, 0, MOST)
        in_range("fresh", found.fresh, 0, 1)
        return found

    def __str__(self) -> str:
        """As ``read`` takes it; no two have the same."""
        fresh = f":{exact(self.fresh)}" if self.fresh else ""
        return f"{exact(self.guidance)}:{self.last}{fresh}"

    @property
    def described(self) -> str:
        """In words."""
        steps = f"last {self.last}" if self.last else "all steps"
        part = "" if self.fresh == 1 else f"{100 * self.fresh:.3g} % "
        fresh = f", {part}fresh noise" if self.fresh else ""
        return f"guidance {self.guidance:g}, {steps}{fresh}"


class Noise(NamedTuple):
    """Fresh noise: how much of all, and which."""

    share: float
    seed: int


@dataclass(frozen=True)
class Variant:
    """One picture of a strip, before any update: how far it goes, and which fresh noise it gets."""

    strength: Strength
    seed: int

    @property
    def noise(self) -> "Noise | None":
        """What tells its fresh noise from that of others; None where it has none."""
        return Noise(self.strength.fresh, self.seed) if self.strength.fresh else None

    def described(self, update: int = 0, with_seed: bool = False) -> str:
        """In words, and which update of it; 0 for none."""
        parts = [self.strength.described]
        parts += [f"update {update}"] if update else []
        parts += [f"seed {self.seed}"] if with_seed else []
        return ", ".join(parts)
