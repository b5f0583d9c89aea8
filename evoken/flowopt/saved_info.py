"""The pictures of a run in folders and under names as the official script gives them.

    saved_info/FlowOpt_SD3/SD3/eta=0.01/src_bear/tar_0/
        output_flowopt_iterations=0_T_steps=15_n_max=12_cfg=3.5.png, ...
        prompts.txt

Of an inversion there is the last picture alone, in the folder of the source. Differs: what the
script writes into ``results`` is in ``curves.csv``; a second entry with a picture of the same name
counts on, where the script writes over the first's; fresh noise, which the script has none of, adds
its share and its seed to a name.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from evoken.errors import reason_of
from evoken.files import write_bytes, write_text
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.official import MODELS, is_folder_name
from evoken.flowopt.record import Record
from evoken.flowopt.strength import Strength
from evoken.records import damaged

FOLDER = "saved_info"


def write_saved_info(run: FlowOptRun) -> None:
    """Copy the pictures of a finished run, if that was asked for.

    Raises:
        RunError: the run folder is damaged, or cannot be written.
    """
    if FOLDER not in run.config:
        return
    records = run.records()
    for i, folder in enumerate(_folders(run)):
        for record in records if run.config["targets"] else records[-1:]:
            source = run.picture(i, record["iteration"])
            try:
                content = source.read_bytes()
            except OSError as error:
                raise damaged(source, reason_of(error)) from error
            write_bytes(folder / _name(run, record), content)
        if run.config["targets"]:
            prompts = (
                f"Source prompt: {run.config['sources'][i]}\n"
                f"Target prompt: {run.config['targets'][i]}\n"
            )
            write_text(folder / "prompts.txt", prompts)


def _name(run: FlowOptRun, record: Record) -> str:
    """The name of a picture; earlier versions had one strength, that of the settings."""
    settings = run.settings
    own = Strength(settings.guidance, settings.last, settings.fresh)
    strength = Strength.read(record["strength"]) if "strength" in record else own
    update = record.get("update", record["iteration"])
    noise = f"_fresh={strength.fresh}_seed={record['seed']}" if strength.fresh else ""
    return (
        f"output_flowopt_iterations={update}_T_steps={settings.steps}"
        f"_n_max={strength.last or settings.steps}_cfg={strength.guidance}{noise}.png"
    )


def _folders(run: FlowOptRun) -> Iterator[Path]:
    """One for each picture; names that a config may have from anybody do not lead out of the run.

    Raises:
        RunError: they are no names.
    """
    about = run.config[FOLDER]
    if not (
        isinstance(about, dict)
        and is_folder_name(name := about.get("exp_name"))
        and (family := about.get("model_type")) in MODELS
    ):
        raise damaged(run.path / "config.json", f"its {FOLDER} names no folders")
    top = run.path / FOLDER / str(name) / str(family) / f"eta={run.settings.eta}"
    seen = Counter[str]()
    for i, picture in enumerate(run.config["pictures"]):
        source = f"src_{picture['name'].split('.')[0]}"
        if not is_folder_name(f"{source}_{len(run.config['pictures'])}"):
            source = f"src_{i}"
        again = seen[source]
        seen[source] += 1
        if run.config["targets"]:
            yield top / source / f"tar_{again}"
        else:
            yield top / (f"{source}_{again}" if again else source)
