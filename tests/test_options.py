"""Settings and the options made of them: said once, checked, helped, completed, read from files."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.reference import commands
from evoken.cli.app import app
from evoken.cli.options import _options_of, read_file
from evoken.errors import SettingError
from evoken.flowopt.rules import RULES
from evoken.flowopt.settings import FLOWOPT_PRESETS, FlowOptSettings, flowopt_preset
from evoken.options import PANELS, check, fields_of, known_names, make, setting, to_dict
from evoken.spec import ModelSpec
from evoken.textual_inversion.folder import LearnRun
from evoken.textual_inversion.settings import PRESETS, LearnSettings, changed, preset
from tests.commands import QUICK, evoken, refused

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
pytestmark = pytest.mark.usefixtures("own_folder")


@dataclass(frozen=True)
class Example:
    steps: int = setting(10, "Steps.", least=2, most=20)
    share: float = setting(0.0, "A share", above=0, most=1, zero="none")
    how: str = setting("slow", "How", choices=("slow", "fast"))
    names: tuple[str, ...] = setting((), "Names", choices=("a", "b"))

    def __post_init__(self) -> None:
        check(self)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 1}, r"`steps` must be from 2 to 20 \(got 1\)"),
        ({"steps": 2.5}, r"`steps` must be a whole number \(got 2.5\)"),
        ({"steps": True}, r"whole number \(got True\)"),
        ({"share": -0.1}, r"above 0 and at most 1, or 0 for none \(got -0.1\)"),
        ({"share": float("nan")}, r"\(got nan\)"),
        ({"share": float("inf")}, r"\(got inf\)"),
        ({"how": "fest"}, r"must be one of slow, fast \(got 'fest'\). Use fast"),
        ({"how": 3}, r"`how` must be text \(got 3\)"),
        ({"names": ("a", "c")}, r"`names` must be one of a, b \(got 'c'\)"),
        ({"names": "a"}, r"`names` must be a list"),
        ({"stepps": 3}, r"no setting called 'stepps'. Use `steps`"),
    ],
)
def test_what_a_field_does_not_allow_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        make(Example, values)


@given(st.integers(2, 20), st.one_of(st.just(0.0), st.floats(0.01, 1)))
def test_what_a_field_allows_is_kept_and_survives_json(steps: int, share: float) -> None:
    made = make(Example, {"steps": steps, "share": share, "names": ["b"]})
    assert made.names == ("b",)
    assert make(Example, json.loads(json.dumps(to_dict(made)))) == made


def test_a_name_that_is_far_from_all_gets_the_list() -> None:
    with pytest.raises(SettingError, match="Use one of draws, seed"):
        known_names(["qqq"], ["draws", "seed"])


def test_every_setting_has_a_help_and_a_panel() -> None:
    for settings in (LearnSettings, FlowOptSettings, ModelSpec):
        fields = fields_of(settings)
        assert set(fields) == set(settings.__dataclass_fields__)  # type: ignore[attr-defined]
        assert all(f.about.help and f.about.panel in PANELS for f in fields.values())


def test_settings_made_by_hand_are_those_of_the_preset() -> None:
    assert LearnSettings("<x>") == preset("default", placeholder="<x>")
    for name in PRESETS:
        assert LearnSettings("<x>", preset=name) == preset(name, placeholder="<x>")
    assert LearnSettings("<x>", search="cma").popsize == 30
    assert LearnSettings("<x>", start="cat").initialization == "word"
    with pytest.raises(SettingError, match="placeholder"):
        preset("default")


def test_every_flowopt_preset_is_possible_and_every_rule_is_a_choice() -> None:
    for name in FLOWOPT_PRESETS:
        assert make(FlowOptSettings, to_dict(flowopt_preset(name))) == flowopt_preset(name)
    assert set(fields_of(FlowOptSettings)["rule"].about.choices) == set(RULES)


# The command line.


def helped(command: str) -> str:
    result = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "80"})
    assert result.exit_code == 0, result.output
    return result.output


ALL = [name for name, _ in commands()]


@pytest.mark.parametrize("command", ALL)
def test_help_fits_a_terminal_and_has_few_panels(command: str) -> None:
    shown = helped(command)
    assert max(len(line) for line in shown.splitlines()) <= 80
    panels = re.findall(r"^╭─ (.+?) ─", shown, flags=re.M)
    assert len(panels) <= 6 and len(set(panels)) == len(panels)
    known = [PANELS.index(p) for p in panels if p in PANELS]
    assert known == sorted(known)
    assert CliRunner().invoke(app, [*command.split(), "-h"]).exit_code == 0


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=ALL)
def test_no_two_options_have_the_same_help(name: str, command: Any) -> None:
    helps = Counter(p.help for p in command.params if getattr(p, "help", None))
    assert not [text for text, count in helps.items() if count > 1]


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=ALL)
def test_every_option_is_in_a_document(name: str, command: Any) -> None:
    text = "\n".join(path.read_text() for path in DOCUMENTS)
    missing = [
        option
        for p in command.params
        for option in p.opts[:1]
        if option.startswith("--") and option not in ("--help",) and f"{option}" not in text
    ]
    assert not missing


def test_help_shows_ranges_choices_and_defaults() -> None:
    shown = " ".join(re.sub(r"[│╭╰─╮╯]", " ", helped("learn")).split())
    for text in (
        "[default: those of the effort]",
        "thorough 48,000): quick, normal or thorough. [default: normal]",
        "gauss-newton, cma, sep-cma, zero-order or random. [default: gauss-newton]",
        "[default: 61 for gauss-newton, else 30]",
        "above 0; 0 for no limit. [default: 0]",
        "[default: the folder's name]",
    ):
        assert text in shown, text
    assert "[default: 4]" in " ".join(helped("edit").replace("│", " ").split())


def completed(arguments: str) -> list[str]:
    env = {
        "_EVOKEN_COMPLETE": "complete_bash",
        "COMP_WORDS": f"evoken {arguments}",
        "COMP_CWORD": str(len(arguments.split())),
        "_TYPER_COMPLETE_TESTING": "True",
    }
    return CliRunner().invoke(app, [], prog_name="evoken", env=env).output.split()


def test_the_shell_completes_choices() -> None:
    assert "gauss-newton" in completed("learn --search ga")
    assert "bfloat16" in completed("generate --precision bf")
    assert {"anderson", "adam"} <= set(completed("edit --rule a"))


def test_version_and_wrong_options() -> None:
    assert re.fullmatch(r"evoken \d+\.\d+\.\d+\n", evoken("--version").output)
    wrong = evoken("learn", "x", "--serch", "cma")
    assert wrong.exit_code == 2 and "--search" in wrong.stderr


# Configuration files.


def written(**options: Any) -> Path:
    Path("options.yaml").write_text(yaml.safe_dump(options))
    return Path("options.yaml")


def settings_of(run: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(run, "config.json").read_text())["settings"]
    return found


def test_a_file_of_options_is_as_good_as_the_line(tiny_folder: Path, photos: Path) -> None:
    line = dict(zip(QUICK[::2], QUICK[1::2], strict=True))
    options = {name.lstrip("-"): int(value) for name, value in line.items()}
    named = {"model": str(tiny_folder / "model"), "clip": str(tiny_folder / "clip")}
    file = written(**options, **named, t_low=0.3, mistake=["unit-norm"], images=str(photos))
    result = evoken("learn", "--config", file, "--output", "a", "--calls", 100)
    assert result.exit_code == 0, result.output
    assert settings_of("a")["popsize"] == 5
    assert (settings_of("a")["t_low"], settings_of("a")["mistakes"]) == (0.3, ["unit-norm"])
    assert settings_of("a")["calls"] == 100  # the line wins

    again = evoken("learn", photos, "--config", "a/config.json", "--output", "b")
    assert again.exit_code == 0, again.output
    assert settings_of("b") == settings_of("a")
    words = [Path(run, "learned_embeds.safetensors").read_bytes() for run in ("a", "b")]
    assert words[0] == words[1]

    other = evoken(
        "learn", photos, "--config", "a/config.json", "--output", "c", "--search", "random"
    )
    assert other.exit_code == 0, other.output
    found, before = settings_of("c"), settings_of("a")
    assert (before.pop("search"), found.pop("search")) == ("gauss-newton", "random")
    assert found == before


@pytest.mark.parametrize(
    "change",
    [
        {"effort": "thorough"},
        {"calls": 500},
        {"search": "cma"},
        {"kind": "style"},
        {"preset": "paper"},
        {"fidelity": 2.0},
        {"objective": "similarity", "search": "sep-cma"},
        {"start": "otter"},
        {"seed": 3},
    ],
    ids=str,
)
def test_what_the_line_changes_decides_over_a_file(change: dict[str, Any]) -> None:
    file = make(LearnSettings, {"placeholder": "<disc>", "samples": 2}).to_dict()
    file |= {"patience": 7}
    wanted = make(LearnSettings, {"placeholder": "<disc>", "samples": 2, "patience": 7} | change)
    assert make(LearnSettings, changed(file, change)) == wanted


@pytest.mark.parametrize(
    ("chosen", "change"),
    [
        ({"vectors": 1}, {"kind": "style"}),
        ({"draws": 8}, {"search": "cma"}),
        ({"popsize": 61}, {"search": "cma"}),
        ({"calls": 12_000}, {"preset": "paper"}),
    ],
    ids=str,
)
def test_what_somebody_chose_stays_also_where_it_would_follow(
    chosen: dict[str, Any], change: dict[str, Any]
) -> None:
    assert changed(chosen, change, of_run=False) == chosen | change


def test_what_a_file_says_stays_beside_what_the_line_changes(
    tiny_folder: Path, photos: Path
) -> None:
    about = {"model": str(tiny_folder / "model"), "clip": str(tiny_folder / "clip"), "vectors": 1}
    line = ("--kind", "style", "--output", "a", *QUICK)
    result = evoken("learn", photos, "--config", written(**about), *line)
    assert result.exit_code == 0, result.output
    assert settings_of("a")["vectors"] == 1


def test_what_follows_is_left_open_beside_what_others_need() -> None:
    about = {"placeholder": "<disc>", "objective": "similarity"}
    file = make(LearnSettings, about | {"search": "sep-cma"}).to_dict()
    wanted = make(LearnSettings, {"placeholder": "<disc>", "search": "sep-cma"})
    assert make(LearnSettings, changed(file, {"objective": "denoising"})) == wanted


@pytest.mark.parametrize("change", [{"patience": 2}, {"rule": "adam"}, {"eta": 5.0}], ids=str)
def test_what_updates_have_is_refused_where_there_are_none(change: dict[str, Any]) -> None:
    (name,) = change
    with pytest.raises(SettingError, match=f"`{name}` is of updates, of which there are none"):
        flowopt_preset("edit", **change)
    assert flowopt_preset("edit", iterations=3, **change).iterations == 3
    found = flowopt_preset("edit")
    assert flowopt_preset("edit", **found.to_dict()) == found  # as a run's config.json holds it


def test_fidelities_of_earlier_versions_are_read() -> None:
    """Below 1, they made nothing but the steps shorter."""
    whole = make(LearnSettings, {"placeholder": "<disc>", "fidelity": 1.0}).to_dict()
    found = LearnSettings.from_dict(whole | {"fidelity": 0.5})
    assert (found.fidelity, found.sigma) == (1.0, 0.075)
    assert LearnSettings.from_dict(whole | {"fidelity": 0.5, "sigma": 3.0}).sigma == 3
    with pytest.raises(SettingError, match="`fidelity` must be from 1 to 1,000, or 0"):
        make(LearnSettings, {"placeholder": "<disc>", "fidelity": 0.5})


def test_an_effort_beside_other_calls_is_refused(photos: Path, done: Path) -> None:
    said = "the effort thorough is 48,000 --calls (got 500). Leave out --effort or --calls."
    refused(evoken("learn", photos, "--calls", 500, "--effort", "thorough"), said)
    config = json.loads((done / "config.json").read_text())
    assert "effort" not in config["settings"]  # the calls say it
    config["settings"] |= {"effort": "normal"}  # as earlier versions wrote it
    (done / "config.json").write_text(json.dumps(config))
    assert LearnRun.open(done).settings.calls == config["settings"]["calls"]
    assert "effort" not in read_file(done / "config.json").options


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("popsze: 3", "no option called 'popsze'. Use popsize"),
        ("[1, 2]", "holds no options"),
        ("a: [", "could not read"),
        ("popsize: 2", "--popsize must be from 4 to 10,000 (got 2)"),
        ("search: x", "--search must be one of"),
        ("search: [x]", "search must be one text or number (got ['x'])."),
        ("calls: true", "calls must be one text or number (got True)"),
        ("output: 2026-01-01", "Put a text into quotes."),
        ("masks: maybe", "masks must be true or false (got 'maybe')."),
        ("json: true", "the option json cannot be given in a file. Type it on the command line."),
        ("resume: runs/cat", "Type it on the command line."),
        ("calls: 6.5", "--calls"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(
    photos: Path, content: str, message: str
) -> None:
    Path("options.yaml").write_text(content)
    refused(evoken("learn", photos, "--config", "options.yaml"), message)
    assert not Path("runs").exists()


def test_a_file_may_turn_off_what_an_option_turns_off() -> None:
    with typer.Context(typer.main.get_command(app).commands["learn"]) as context:
        for text, masks in (
            ("no-masks: true", False),
            ("masks: false", False),
            ("no_masks: false", True),
        ):
            assert _options_of(context, yaml.safe_load(text)) == {"masks": masks}
        assert _options_of(context, {"output": 2026, "seed": 3}) == {"output": "2026", "seed": "3"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_files_of_other_editors(photos: Path, encoding: str) -> None:
    for name, text in (("o.yaml", "popsize: 2"), ("o.json", '{"popsize": 2}')):
        Path(name).write_text(text, encoding=encoding)
        said = "--popsize must be" if encoding == "utf-8-sig" else "it is no text in UTF-8."
        refused(evoken("learn", photos, "--config", name), said)


def test_a_file_that_is_not_there_is_one_sentence(photos: Path) -> None:
    refused(evoken("learn", photos, "--config", "no.yaml"), "no.yaml", "no such file")


# JSON.


@pytest.mark.parametrize(("name", "command"), list(commands()), ids=ALL)
def test_every_command_gives_json(name: str, command: Any) -> None:
    assert any("--json" in p.opts for p in command.params)


def test_json_is_all_that_goes_to_stdout(done: Path, photos: Path) -> None:
    for arguments, keys in (
        (("learn", "--resume", done), {"run", "word", "placeholder", "validation_loss", "report"}),
        (("generate", "a <disc>", "--word", done, "--count", 2), {"pictures", "sheet"}),
        (("inspect", done), {"word", "layout", "encoders", "norms", "about", "nearest"}),
        (("evaluate", done, "--count", 2), {"reconstruction", "editability", "count"}),
        (("retrieve", done, photos), {"images", "ignored", "file"}),
        (("convert", done, "--to", "a1111"), {"word", "file", "usage", "caution"}),
        (
            ("merge", f"{done}:2", f"{done}:1", "--output", "both.safetensors"),
            {"word", "file", "merged", "weights"},
        ),
    ):
        result = evoken(*arguments, "--json")
        assert result.exit_code == 0, result.output
        assert keys <= set(json.loads(result.stdout)), arguments
    pictures = json.loads(evoken("generate", "a <disc>", "--word", done, "--json").stdout)
    assert len(pictures["pictures"]) == 4 and all(Path(p).exists() for p in pictures["pictures"])
