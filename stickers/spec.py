"""What a picture of the sticker world shows: the label from which it is drawn and captioned."""

from dataclasses import dataclass
from typing import NamedTuple


class Thing(NamedTuple):
    """An object in a picture.

    Attributes:
        noun: what it is called.
        dye: the colour it is dyed in; "" for its own colours, two joined by " and " for two.
        hand: whose drawing it is, a key of ``drawings.HANDS``; "" for the first that drew it.
        look: how it is changed, a key of ``looks.LOOKS``; "" for not at all.
        partner: the object whose other half is put to it, for the looks of halves.
    """

    noun: str
    dye: str = ""
    hand: str = ""
    look: str = ""
    partner: str = ""


@dataclass(frozen=True)
class Spec:
    """What a picture shows: one to three things, a background or scene, a style ("" for none)."""

    things: tuple[Thing, ...]
    background: str
    style: str = ""
    side_by_side: bool = True  # with two things: beside each other, or one above the other
