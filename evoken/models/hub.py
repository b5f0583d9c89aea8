"""What is on the hub: where its files are on this machine, and why they cannot be had."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import (
    ModelInfo,
    constants,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    model_info,
    try_to_load_from_cache,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from evoken.errors import ModelError, one_line, reason_of, shown
from evoken.models.provenance import repository

INDEX = "model_index.json"
LOCAL = "Check the connection, or give a folder or file on this machine."
# All errors of the client: its own, those of the connection below it, and of names.
HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
ERRORS = (HTTP_ERROR, OSError, EntryNotFoundError, HFValidationError)


def reached(name: str, file: str = INDEX) -> Path | None:
    """Ask the hub once for a file of a model, without waiting for a connection that is not there.

    Args:
        name: a hub id, with "@revision" behind it or without.

    Returns:
        None if the hub has it; else where an earlier copy of the file is.

    Raises:
        ModelError: the model, or the hub, cannot be had, and there is no copy.
    """
    repo, revision = repository(name)
    try:
        _check_online()
        url = hf_hub_url(repo, file, revision=revision)
        get_hf_file_metadata(url, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return None
    except ERRORS as error:
        return _earlier(error, name, (file,))


def listed(name: str, files: Sequence[str]) -> dict[str, int | None] | Path:
    """Ask the hub once what files a repository has, without waiting for a connection.

    Returns:
        By their names, their sizes in bytes if it says them; if the hub cannot be asked, where an
        earlier copy of one of ``files`` is, the first that there is.

    Raises:
        ModelError: the repository, or the hub, cannot be had, and there is no copy.
    """
    repo, revision = repository(name)
    try:
        _check_online()
        wait = constants.HF_HUB_ETAG_TIMEOUT
        info = model_info(repo, revision=revision, timeout=wait, files_metadata=True)
        return {sibling.rfilename: sibling.size for sibling in info.siblings or ()}
    except ERRORS as error:
        return _earlier(error, name, files)


def _check_online() -> None:
    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("the hub's client is set to be offline")


def _earlier(error: Exception, name: str, files: Sequence[str]) -> Path:
    """The first of the files that there is a copy of, or the sentence for the error."""
    repo, revision = repository(name)
    if not isinstance(error, HFValidationError) and not _refused(error):
        for file in files:
            kept = try_to_load_from_cache(repo, file, revision=revision)
            if isinstance(kept, str):
                return Path(kept)
    raise hub_error(error, name, files[0]) from error


def fetched(name: str, file: str = INDEX) -> Path:
    """Where a file of a model of the hub is on this machine; arguments and errors as above."""
    repo, revision = repository(name)
    return Path(asked(name, lambda: hf_hub_download(repo, file, revision=revision), file))


def beside(folder: Path, hub: str, file: str) -> Path:
    """Where a file of a model's folder is, which is fetched if it is not there and the folder is a
    part of what the hub has.

    Args:
        hub: the hub id, or "" for none.
        file: its name, as a path from the folder.
    """
    path = folder / file
    return fetched(hub, file) if hub and not path.is_file() else path


def files_on_hub(name: str) -> list[str]:
    """Names of all files of a model of the hub; raises ``ModelError`` if they cannot be had."""
    repo, revision = repository(name)
    info: ModelInfo = asked(name, lambda: model_info(repo, revision=revision))
    return [sibling.rfilename for sibling in info.siblings or ()]


def asked(name: str, question: Callable[[], Any], file: str = INDEX) -> Any:
    """What the hub answers; its errors become a ``ModelError`` about the model."""
    try:
        return question()
    except ERRORS as error:
        raise hub_error(error, name, file) from error


def _refused(error: Exception) -> bool:
    """Whether the hub answered that this model is not there, or not for us."""
    gone = (RepositoryNotFoundError, RevisionNotFoundError, EntryNotFoundError)
    return isinstance(error, gone)


def hub_error(error: BaseException, name: str, file: str = INDEX) -> ModelError:
    """The sentence for an error of the hub's client."""
    repo, revision = repository(name)
    model = shown(repo, 200)
    found = next((e for e in _chain(error) if isinstance(e, HTTP_ERROR)), error)
    response = getattr(found, "response", None)
    status = getattr(response, "status_code", None)
    said = str(found).lower()
    if isinstance(found, GatedRepoError):
        return ModelError(
            f"{model} is only for those who accepted its licence.",
            f"Accept it on https://huggingface.co/{repo} and log in: hf auth login",
        )
    if status == 401 and ("invalid credentials" in said or "expired" in said):
        return ModelError(
            f"the hub refuses your token, and {model} was not downloaded.",
            "Log in again: hf auth login",
        )
    if isinstance(found, RepositoryNotFoundError):
        return ModelError(
            f"there is no repository {model} on the hub, and no such folder or file here.",
            "Check the spelling. If it is private, log in: hf auth login",
        )
    if isinstance(found, RevisionNotFoundError):
        return ModelError(
            f"{model} has no revision {shown(revision)}.",
            f"Choose one that https://huggingface.co/{repo} lists.",
        )
    if isinstance(found, HFValidationError):
        return ModelError(
            f"{shown(name, 200)} is no folder or file here, and no id of the hub.",
            "Check the spelling.",
        )
    if status is not None and status >= 500:
        return ModelError(
            f"the hub is out of order (its answer is {status}) and {model} was not downloaded.",
            "Try again later, or give a folder or file on this machine.",
        )
    if status in (401, 403):
        return ModelError(
            f"the hub does not give {model} to you (its answer is {status}).",
            f"Look at https://huggingface.co/{repo} and log in: hf auth login",
        )
    if status == 429:
        return ModelError(
            f"the hub had too many requests from here, and {model} was not downloaded.",
            "Try again later, or log in: hf auth login",
        )
    if isinstance(found, EntryNotFoundError) and status is not None:
        return ModelError(
            f"{model} of the hub has no {one_line(file)}.",
            "Give a pipeline of diffusers, or download the single .safetensors file and give that."
            if file == INDEX
            else "Check the name.",
        )
    if isinstance(found, OfflineModeIsEnabled):
        reason = "the hub's client is set to be offline"
        return ModelError(f"{model} is not on this machine, and {reason}.", LOCAL)
    if status is None and isinstance(found, HTTP_ERROR | ConnectionError | TimeoutError):
        return ModelError(
            f"there is no connection to the hub, and {model} is not on this machine "
            f"({reason_of(found)}).",
            LOCAL,
        )
    return ModelError(f"could not get {model} from the hub: {reason_of(found)}.", LOCAL)


def _chain(error: BaseException) -> list[BaseException]:
    """An error and those that it was raised for."""
    found: list[BaseException] = []
    at: BaseException | None = error
    while at is not None and at not in found:
        found.append(at)
        at = at.__cause__ or at.__context__
    return found
