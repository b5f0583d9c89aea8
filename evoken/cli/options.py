"""Command-line options made from the fields of settings classes, and from configuration files."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from evoken.cli.exits import BAD_INPUT
from evoken.cli.terminal import tell
from evoken.documents import read_json, read_yaml
from evoken.errors import EvokenError, SettingError, reason_of, shown
from evoken.options import ABOUT, PANELS, Field, fields_of, known_names

NOT_IN_FILES = ("config_file", "resume", "as_json")
EXAMPLE = "a file of lines such as calls: 6000"


def _line_wins(file: dict[str, Any], line: dict[str, Any], of_run: bool) -> dict[str, Any]:
    return file | line


class From(NamedTuple):
    """The options that a command makes of a settings class.

    Attributes:
        settings: the class.
        without: names of fields that are no options of this command.
        defaults: what the help shows as a field's default where it is not the class's own.
        changed: the values of a file with those that the line changes; it is told whether the file
            is a run's, which has them all.
    """

    settings: type
    without: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = {}
    changed: Callable[[dict[str, Any], dict[str, Any], bool], dict[str, Any]] = _line_wins

    def fields(self) -> dict[str, Field]:
        """The fields that become options, by name."""
        found = fields_of(self.settings)
        return {name: field for name, field in found.items() if name not in self.without}


def takes(**groups: From) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with a dictionary of settings for a parameter: on the command line every field of
    the class is an option, and the command gets those that were given, by name.

    ``--config`` is added to the options.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**options: Any) -> None:
            context = options["context"] if needs_context else options.pop("context")
            _running.append(context)
            options.pop("config_file")
            for group, source in groups.items():
                values = {name: options.pop(name) for name in source.fields()}
                given = {n: v for n, v in values.items() if v is not None and v != []}
                file = {n: v for n, v in given.items() if in_file(context, n)}
                line = {n: v for n, v in given.items() if n not in file}
                options[group] = source.changed(file, line, _OF_RUN in context.meta)
            command(**options)

        signature = inspect.signature(command, eval_str=True)
        needs_context = "context" in signature.parameters
        own = [p for p in signature.parameters.values() if p.name not in (*groups, "context")]
        parameters = []
        for source in groups.values():
            for name, field in source.fields().items():
                about = field.about
                default = source.defaults.get(name, about.suited or about.default)
                parameters.append(_parameter(field, default))
        parameters += [*own, _parameter_of_config()]
        ordered = sorted((p.replace(kind=p.KEYWORD_ONLY) for p in parameters), key=_panel)
        ordered.insert(0, _CONTEXT)
        run.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in ordered}
        return run

    return decorate


_OF_RUN = f"{__name__}.of_run"  # in a context's meta where the file of options is a run's
_CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)


def in_file(context: typer.Context, name: str) -> bool:
    """Whether a file of options, and not the line, gave a parameter of a command its value."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


_running: deque[typer.Context] = deque(maxlen=1)  # the command that was started last


def flags() -> dict[str, str]:
    """The options of the running command by the names of its parameters."""
    return flags_of(_running[0]) if _running else {}


def flags_of(context: typer.Context) -> dict[str, str]:
    """By parameter of a command: its longest option, or the argument's name in capitals."""
    found = {}
    for parameter in context.command.params:
        name, option = str(parameter.name), max(parameter.opts or parameter.secondary_opts, key=len)
        argument = parameter.metavar or name.upper()
        found[name] = option if option.startswith("-") else argument
    return found


def _parameter(field: Field, default: Any) -> inspect.Parameter:
    """The option of a setting; its value is None where it is not given."""
    about = field.about
    option = typer.Option(
        f" /{field.option}" if about.off else field.option,
        help=help_of(field, default),
        rich_help_panel=about.panel,
        show_default=False,
        autocompletion=(lambda: list(about.choices)) if about.choices else None,
    )
    kind: Any = list[field.type] if field.several else field.type  # type: ignore[name-defined]
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind | None, option],
    )


def help_of(field: Field, default: Any) -> str:
    """The help of a setting's option: what it is, what is allowed, the default."""
    if field.about.off:
        return field.about.off
    if default in ("", ()) or default is False:
        return f"{field.sentence}."
    value = f"{default:,}" if isinstance(default, int) else default
    value = " ".join(default) if isinstance(default, tuple) else value
    value = f"{default:g}" if isinstance(default, float) else value
    return f"{field.sentence}. \\[default: {value}]"


def _panel(parameter: inspect.Parameter) -> int:
    """The place of an option's panel."""
    [option] = parameter.annotation.__metadata__
    panel = getattr(option, "rich_help_panel", None)
    return PANELS.index(panel) if panel in PANELS else len(PANELS)


def _parameter_of_config() -> inspect.Parameter:
    option = typer.Option(
        "--config",
        metavar="FILE",
        help="YAML file of options, or a run's config.json; options on the line win.",
        is_eager=True,
        callback=_read_config,
        rich_help_panel=ABOUT,
        show_default=False,
    )
    return inspect.Parameter(
        "config_file",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[Path | None, option],
    )


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make what the file says the defaults of the other options."""
    if path is not None:
        try:
            content = read_file(path)
            context.default_map = _options_of(context, content.options)
            if content.of_run:
                context.meta[_OF_RUN] = True
        except EvokenError as error:
            tell(error, {})
            raise typer.Exit(BAD_INPUT) from None
    return path


def _options_of(context: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by the names of the command's parameters; the file may name options or settings.

    Raises:
        SettingError: there is no such option, or its value is none of a kind that it can have.
    """
    names: dict[str, Any] = {}
    kept: set[str] = set()
    negated: set[str] = set()
    for parameter in context.command.params:
        off = {_in_file(option) for option in parameter.secondary_opts}
        on = {_in_file(option) for option in (str(parameter.name), *parameter.opts)}
        if parameter.name in NOT_IN_FILES:
            kept |= on
        else:
            names |= dict.fromkeys(on | off, parameter)
            negated |= off
    given = {_in_file(name): value for name, value in values.items()}
    for name in given:
        if name in kept - set(names):
            raise SettingError(
                f"the option {name} cannot be given in a file.", "Type it on the command line."
            )
    known_names(given, names, "option")
    return {
        str(names[name].name): _of_file(name, value, names[name], name in negated)
        for name, value in given.items()
    }


def _in_file(option: str) -> str:
    """The name of an option as a file may have it, with dashes or without."""
    return option.lstrip("-").replace("-", "_")


def _of_file(name: str, value: Any, parameter: Any, negated: bool) -> Any:
    """A value of a file as that of a parameter: what would otherwise be read as some other text or
    number than was meant is refused.
    """
    several = parameter.nargs == -1 or getattr(parameter, "multiple", False)
    if getattr(parameter, "is_flag", False):
        if value is not None and not isinstance(value, bool):
            raise SettingError(f"{name} must be true or false (got {shown(value)}).")
        return not value if negated and value is not None else value
    if several and isinstance(value, list):
        for one in value:
            _check_is_one(one, name)
        return [str(one) for one in value if one is not None]
    _check_is_one(value, name)
    if value is None:
        return None
    return [str(value)] if several else str(value)


def _check_is_one(value: Any, name: str) -> None:
    """Raise ``SettingError`` for what is neither a text nor a number, nor left open."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise SettingError(
            f"{name} must be one text or number (got {shown(value)}).",
            "" if isinstance(value, list | dict) else "Put a text into quotes.",
        )


class Content(NamedTuple):
    """The options of a file, and whether they are all that a run had."""

    options: dict[str, Any]
    of_run: bool = False


def read_file(path: Path) -> Content:
    """The options in a YAML file, or in a run folder's ``config.json``.

    Raises:
        SettingError: it cannot be read, or holds something else.
    """
    try:
        content = read_json(path) if path.suffix == ".json" else read_yaml(path)
    except (OSError, ValueError) as error:
        raise SettingError(
            f"could not read {shown(path)}: {reason_of(error)}.", f"Give {EXAMPLE}."
        ) from error
    if not isinstance(content, dict) or not all(isinstance(n, str) for n in content):
        raise SettingError(
            f"{shown(path)} holds no options (got {shown(content)}).", f"Give {EXAMPLE}."
        )
    if isinstance(content.get("settings"), dict) and isinstance(content.get("model"), dict):
        run = {name: content[name] for name in ("clip",) if content.get(name)}
        found = {**content["settings"], **content["model"], **run}
        found.pop("effort", None)  # of an earlier version, beside the calls that it stood for
        return Content(found, of_run=True)
    return Content(content)
