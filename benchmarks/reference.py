"""The reference of commands and settings, docs/cli.md and docs/settings.md, made from themselves.

python -m benchmarks.reference
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from evoken.cli.app import app
from evoken.files import write_text
from evoken.flowopt.settings import FlowOptSettings
from evoken.options import PANELS, fields_of
from evoken.spec import ModelSpec
from evoken.textual_inversion.settings import LearnSettings

DOCS = Path(__file__).parent.parent / "docs"
HEAD = """# The command line

Every command takes `--help`, and `--config FILE`: a YAML file of the options below without their
dashes (`calls: 6000`, `no-masks: true`), or the `config.json` of a run folder. Options on the line
win over the file, and `--resume` and `--json` are only for the line.
`evoken --install-completion` lets your shell complete commands, options and choices, and
`evoken --version` shows the version.

Exit codes: 0 done, 2 something cannot be used (one sentence on stderr says what), 130 interrupted.

*This page is made from the program: `python -m benchmarks.reference`.*
"""
SETTINGS_HEAD = """# Settings

Every field of the settings classes, its range and its default. The options of
[the commands](cli.md) are made from the same fields, and so are the checks.

*This page is made from the program: `python -m benchmarks.reference`.*
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Name and command, in the order of the program's help."""
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", c) for inner, c in command.commands.items())
        else:
            yield name, command


def pages() -> dict[Path, str]:
    """The pages by their files."""
    return {DOCS / "cli.md": command_line(), DOCS / "settings.md": settings()}


def settings() -> str:
    """The page of the settings."""
    parts = [SETTINGS_HEAD]
    for kind in (LearnSettings, FlowOptSettings, ModelSpec):
        parts.append(f"\n## {kind.__name__}\n\n| field | what it is | default |\n|---|---|---|\n")
        for field in fields_of(kind).values():
            default = field.about.suited or f"`{field.about.default!r}`"
            parts.append(f"| `{field.name}` | {_plain(field.sentence)} | {default} |\n")
    return "".join(parts)


def command_line() -> str:
    """The page of the commands."""
    return HEAD + "".join(_section(name, command) for name, command in commands())


def _section(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    shapes = " ".join(f"{p.metavar or p.name.upper()}" for p in arguments)
    parts = [
        f"\n## evoken {name}\n\n```\nevoken {name} {shapes} [OPTIONS]\n```\n\n{_prose(command)}\n"
    ]
    parts += [f"\n- `{p.metavar or p.name.upper()}`: {_plain(p.help)}" for p in arguments]
    parts += ["\n"] if arguments else []
    for panel in (*PANELS, None):
        rows = [p for p in options if _panel(p) == panel]
        if rows:
            parts.append(f"\n**{panel or 'Output'}**\n\n")
            parts += [f"- `{'`, `'.join(p.opts or p.secondary_opts)}`: {_help(p)}\n" for p in rows]
    return "".join(parts)


def _panel(parameter: Any) -> str | None:
    panel = getattr(parameter, "rich_help_panel", None)
    return panel if panel in PANELS else None


def _prose(command: Any) -> str:
    return " ".join((command.help or "").split())


def _help(parameter: Any) -> str:
    said = _plain(parameter.help)
    shown = parameter.show_default and parameter.default not in (None, "", False)
    return f"{said} [default: {parameter.default}]" if shown else said


def _plain(said: str | None) -> str:
    text = re.sub(r"\\\[", "[", said or "")
    return re.sub(r"'(<\w+>)'", r"`\1`", text)  # which a page would take for a tag


if __name__ == "__main__":
    for path, text in pages().items():
        write_text(path, text)
