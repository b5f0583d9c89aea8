"""Words of the hub: fetched from a server on this machine that stands in for it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from evoken.errors import WordError
from evoken.textual_inversion.settings import LearnSettings
from evoken.words.files import read_embedding
from evoken.words.word import Word, load_word, save_word
from tests.commands import evoken, refused
from tests.hub_server import COMMIT, HubServer, serving
from tests.words import pt, save, vectors

pytestmark = pytest.mark.usefixtures("own_folder")
L, G = vectors(768), vectors(1280)
TOY = {
    "README.md": b"# cat toy",
    "concept_images/0.jpeg": b"not fetched",
    "learned_embeds.bin": pt({"<cat-toy>": L[0]}),
    "token_identifier.txt": b"<cat-toy>",
    "unet/diffusion_pytorch_model.bin": b"not fetched",
}


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with serving() as hub:
        address(monkeypatch, hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        hub.files["sd-concepts-library/cat-toy"] = dict(TOY)
        hub.revisions = ("main", "refs/pr/1")
        yield hub


def address(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", url)


@pytest.mark.parametrize(
    "name",
    [
        "sd-concepts-library/cat-toy",
        "sd-concepts-library/cat-toy@main",
        f"sd-concepts-library/cat-toy@{COMMIT}",
        "sd-concepts-library/cat-toy@refs/pr/1",
        "sd-concepts-library/cat-toy/learned_embeds.bin",
        "sd-concepts-library/cat-toy@main/learned_embeds.bin",
        "sd-concepts-library/cat-toy#<cat-toy>",
    ],
)
def test_a_word_of_the_hub_and_nothing_else_is_fetched(name: str, server: HubServer) -> None:
    word = load_word(name)
    assert word.placeholder == "<cat-toy>" and torch.equal(word.vectors, L)
    assert server.fetched == ["learned_embeds.bin"]
    assert torch.equal(load_word(name).vectors, L) and len(server.fetched) == 1


def test_the_commands_take_words_of_the_hub(server: HubServer, tiny_folder: Path) -> None:
    name = "sd-concepts-library/cat-toy"
    assert "<cat-toy>" in evoken("inspect", name).output
    assert evoken("convert", name, "--to", "a1111").exit_code == 0
    assert Path("embeddings/cat-toy/cat-toy.safetensors").exists()
    settings = LearnSettings("<x>", kind="style", start=name)
    assert (settings.initialization, settings.vectors) == ("file", 1)
    refused(
        evoken("generate", "a <cat-toy>", "--word", name, "--model", tiny_folder / "model"),
        "needs a word of width 16 (got width 768)",
    )


def test_safetensors_before_bin_and_the_second_file_with_the_first(server: HubServer) -> None:
    server.files["me/xl"] = {
        "learned_embeds.bin": b"not fetched",
        "learned_embeds.safetensors": save({"<toy>": L}),
        "learned_embeds_2.safetensors": save({"<toy>": G}),
    }
    for name in ("me/xl", "me/xl/learned_embeds_2.safetensors"):
        assert dict(load_word(name).encoders) == {"clip_l": 768, "clip_g": 1280}
    assert sorted(server.fetched) == ["learned_embeds.safetensors", "learned_embeds_2.safetensors"]


def test_the_last_of_a_scripts_steps(server: HubServer) -> None:
    server.files["me/steps"] = {
        f"learned_embeds-steps-{n}.safetensors": save({"<toy>": L * n}) for n in (500, 1000)
    }
    assert torch.equal(load_word("me/steps").vectors, L * 1000)
    assert torch.equal(load_word("me/steps/learned_embeds-steps-500.safetensors").vectors, L * 500)


def test_a_file_of_another_name(server: HubServer) -> None:
    server.files["me/words"] = {
        "words/cat.pt": pt({"<cat>": L}),
        "dog.safetensors": save({"emb_params": L}),
    }
    assert load_word("me/words/words/cat.pt").placeholder == "<cat>"
    assert read_embedding("me/words/dog.safetensors").placeholder == "dog"
    server.fetched.clear()
    refused(
        evoken("inspect", "me/words"),
        "'me/words' of the hub has no learned_embeds.safetensors or learned_embeds.bin",
        "'me/words/dog.safetensors' or 'me/words/words/cat.pt'",
    )
    refused(evoken("inspect", "me/words/cow.pt"), "has no 'cow.pt'", "me/words/dog.safetensors")
    assert not server.fetched


def test_a_file_that_is_too_large_is_not_fetched(server: HubServer) -> None:
    server.files["me/model"] = {"model.safetensors": b"weights"}
    server.sizes["model.safetensors"] = 2**32
    refused(evoken("inspect", "me/model/model.safetensors"), "has 4,096 MB")
    assert not server.fetched


REFUSALS: dict[str, tuple[int, dict[str, str], str]] = {
    "gated": (403, {"X-Error-Code": "GatedRepo"}, "accepted its licence"),
    "private": (401, {"X-Error-Code": "RepoNotFound"}, "no repository 'me/word' on the hub"),
    "token": (
        401,
        {"X-Error-Message": "Invalid credentials in Authorization header"},
        "refuses your token",
    ),
    "out of order": (503, {}, "out of order (its answer is 503)"),
    "too many": (429, {}, "too many requests"),
}


@pytest.mark.filterwarnings("ignore")  # the client says that it tries again
@pytest.mark.parametrize("case", REFUSALS)
def test_what_the_hub_refuses_is_said(case: str, server: HubServer) -> None:
    status, headers, match = REFUSALS[case]
    server.refusal = status, headers
    refused(evoken("inspect", "me/word"), match)
    with pytest.raises(WordError):
        load_word("me/word")


def test_what_is_not_on_the_hub_is_said(server: HubServer) -> None:
    refused(evoken("inspect", "me/typo"), "no repository 'me/typo' on the hub", "hf auth login")
    refused(evoken("inspect", "sd-concepts-library/cat-toy@v9"), "has no revision 'v9'")


def test_without_the_hub_an_earlier_copy_is_read(
    server: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "sd-concepts-library/cat-toy"
    load_word(name)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address(monkeypatch, f"http://127.0.0.1:{unused.getsockname()[1]}")
        assert load_word(name).placeholder == "<cat-toy>"
        refused(evoken("inspect", "me/other"), "no connection to the hub", "not on this machine")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert load_word(name).placeholder == "<cat-toy>"
    assert load_word(f"{name}/learned_embeds.bin").placeholder == "<cat-toy>"
    refused(evoken("inspect", "me/other"), "set to be offline")


@pytest.mark.parametrize(
    "path", ["runs/typo", "runs/cat/typo.pt", "nowhere/cat.pt", "./a/b", "/a/b", "~/a", "a", "../a"]
)
def test_a_misspelt_path_is_not_looked_for_on_the_hub(path: str, server: HubServer) -> None:
    Path("runs/cat").mkdir(parents=True)
    server.refusal = 500, {}
    refused(evoken("inspect", path), "there is no run folder or embedding file with a word")


def test_a_folder_here_is_not_of_the_hub(server: HubServer) -> None:
    folder = Path("sd-concepts-library/cat-toy")
    folder.mkdir(parents=True)
    (folder / "learned_embeds.bin").write_bytes(pt({"<mine>": L}))
    assert load_word(folder).placeholder == "<mine>" and not server.fetched


def test_a_word_in_the_home_folder_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    save_word(tmp_path / "cat.safetensors", Word("<cat>", torch.ones(1, 768)))
    assert load_word("~/cat.safetensors").placeholder == "<cat>"
    with pytest.raises(WordError, match="must not be empty"):
        load_word("")
