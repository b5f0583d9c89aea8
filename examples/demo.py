"""``make demo``: learn a thing and a style that the model has never seen, and show them."""

import subprocess
import sys
import time
from pathlib import Path

EXAMPLES = Path(__file__).parent
PROMPTS = {
    "teapot": ("a photo of a <teapot> on the beach", "a photo of a <teapot> in space"),
    "blueprint": ("a cat in the style of <blueprint>", "a house in the style of <blueprint>"),
}


def evoken(*arguments: object) -> None:
    """Run a command as a user would type it."""
    words = [str(a) for a in arguments]
    print(
        "$ evoken " + " ".join(f'"{w}"' if " " in w or "<" in w else w for w in words), flush=True
    )
    subprocess.run([sys.executable, "-m", "evoken.cli", *words], check=True)


def learn(name: str, kind: str) -> Path:
    """Learn a concept; goes on with a demo that was interrupted."""
    run = Path("runs") / f"demo-{name}"
    if (run / "config.json").exists():
        evoken("learn", "--resume", run)
    else:
        evoken("learn", EXAMPLES / name, "--kind", kind, "--output", run)
    return run


def main() -> None:
    started = time.time()
    for name, kind in (("teapot", "object"), ("blueprint", "style")):
        run = learn(name, kind)
        for prompt in PROMPTS[name]:
            evoken("generate", prompt, "--word", run, "--output", run / "pictures")
    print(f"Done in {time.time() - started:.0f} s. Open these in a browser:")
    for name in PROMPTS:
        print(f"  {(Path('runs') / f'demo-{name}' / 'report.html').resolve()}")


if __name__ == "__main__":
    main()
