"""The sticker models that are shipped in the package."""

from pathlib import Path

STICKERS = Path(__file__).parent / "weights"
EMBEDDED = ("stickers", "stickers-flow")
JUDGED_SIZE = 64  # px; of the pictures that the judge was trained on
