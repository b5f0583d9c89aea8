"""The page does nothing for other sites, and gives out nothing but what is in its folder."""

import html
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms
from starlette.requests import ClientDisconnect

from evoken.errors import EvokenError, RunError
from evoken.images import load_images
from evoken.web.forms import for_people, text_of
from evoken.web.safety import MOST_BYTES, place
from evoken.web.uploads import MOST_FILES, as_seen, keep_pictures, safe_name
from tests.web import HERE, Browser, opened

PAGES = ("/", "/words", "/draw", "/edit", "/files", "/queue", "/status")
REPORT = "/report/disc/page/report.html"
NASTY = "<img src=x onerror=alert(1)>"


@pytest.fixture
def browser(tmp_path: Path, finished: Path) -> Iterator[Browser]:
    """Over a folder with a finished run; nothing is started."""
    runs = tmp_path / "runs"
    runs.mkdir()
    os.symlink(finished, runs / "link")
    shutil.copytree(finished, runs / "disc")
    (tmp_path / "secret.png").write_bytes(photo())
    with opened(runs) as found:
        yield found


def mask(size: tuple[int, int] = (40, 30)) -> bytes:
    picture, content = Image.new("RGB", size), io.BytesIO()
    picture.paste("white", (5, 5, 15, 15))
    picture.save(content, "PNG")
    return content.getvalue()


def photo(exif: bool = False, size: tuple[int, int] = (40, 30)) -> bytes:
    picture, content = Image.new("RGB", size, "red"), io.BytesIO()
    picture.paste("blue", (5, 5, 15, 15))
    data = Image.Exif()
    if exif:
        data[0x010F] = "a camera"
        data.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)
    picture.save(content, "JPEG", exif=data)
    return content.getvalue()


def test_pages_under_another_name_are_not_given_out(browser: Browser) -> None:
    """A site can point its own name to this machine, and would then be let read everything."""
    for host in ("evil.example", "evil.example:7860", "localhost.evil.example", ""):
        response = browser.client.get("/words", headers={"host": host})
        assert response.status_code == 421 and "disc" not in response.text
    for host in ("localhost:7860", "127.0.0.1", "[::1]:80"):
        assert browser.client.get("/words", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://localhost:8000"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": HERE},
        {},
    ],
)
def test_a_cross_site_request_does_nothing(browser: Browser, headers: dict[str, str]) -> None:
    for address in ("/do/delete/disc", "/teach", "/draw", "/merge", "/example/otter", "/files"):
        sent = browser.client.post(address, data={"prompt": "a"}, headers=headers)
        assert sent.status_code == 403
    assert browser.site.queue.jobs() == [] and (browser.site.runs / "disc").is_dir()


def test_every_answer_says_what_a_browser_may_do_with_it(browser: Browser) -> None:
    addresses = (*PAGES, "/words/disc", "/nothing", "/picture/disc/file/inputs/00.png")
    for address in (*addresses, "/static/page.js", REPORT, "/compare?run=disc"):
        headers = browser.client.get(address).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert "sandbox" in browser.client.get(REPORT).headers["content-security-policy"]


def test_every_page_of_a_run_says_how_to_go_on_in_a_terminal(browser: Browser) -> None:
    for address in ("/words/disc", "/live/words/disc"):
        text = browser.get(address)
        assert "evoken learn --resume disc" in text and "Macro" not in text


def test_a_token_opens_the_page_once_for_a_browser(tmp_path: Path) -> None:
    with opened(tmp_path / "runs", token="a-long-enough-token", hosts=()) as browser:
        for address in (*PAGES, "/?token=", "/?token=another-long-token", "/static/page.css"):
            assert browser.client.get(address).status_code == 401
        assert browser.post("/draw", prompt="a").status_code == 401
        assert browser.client.get("/words?token=a-long-enough-token").status_code == 200
        cookie = browser.client.cookies
        assert "a-long-enough-token" not in str(dict(cookie))
        assert browser.client.get("/words").status_code == 200
        [name] = dict(cookie)
        browser.client.cookies.clear()
        browser.client.cookies.set(name, "guessed")
        assert browser.client.get("/words").status_code == 401


def test_servers_of_one_host_do_not_share_a_cookie(tmp_path: Path) -> None:
    """A browser sends the cookies of a host to all of its ports."""
    found = []
    for port in (7860, 7861):
        with opened(tmp_path / f"{port}", token="a-long-enough-token", hosts=()) as browser:
            browser.client.base_url = f"http://localhost:{port}"
            assert browser.client.get("/words?token=a-long-enough-token").status_code == 200
            found += list(dict(browser.client.cookies))
    assert len(set(found)) == 2


@pytest.mark.parametrize(
    "name",
    [
        "..",
        "../secret.png",
        "disc/../../secret.png",
        "%2e%2e/secret.png",
        "..%2fsecret.png",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "link",
        ".web",
        ".web/jobs",
        "disc\\..",
        "disc%00",
        "a" * 300,
        "disc//inputs",
    ],
)
def test_addresses_that_lead_out_of_the_folder_lead_nowhere(browser: Browser, name: str) -> None:
    for before, after in (
        ("/words/", ""),
        ("/live/words/", ""),
        ("/edits/", ""),
        ("/picture/", "/file/inputs/00.png"),
        ("/picture/disc/file/", ""),
        ("/picture/disc/file/inputs/", ""),
        ("/report/", "/page/report.html"),
        ("/report/disc/page/", ""),
        ("/changed/", "/0/0.png"),
        ("/word-file/comfyui/", ""),
        ("/compare?run=disc&run=", ""),
        ("/draw?word=", ""),
        ("/edit?from_run=disc&from_file=", ""),
    ):
        # A client would take out plain dots itself.
        response = browser.client.get(f"{before}{name.replace('..', '%2e%2e')}{after}")
        assert response.status_code in (400, 404) or before.startswith("/edit?"), (before, name)
    for action in ("delete", "stop", "keep", "go-on", "pick"):
        assert browser.post(f"/do/{action}/{name}", number="0").status_code in (400, 404)
    assert browser.post("/draw", prompt="a", word=name).status_code == 400
    assert browser.post("/edit", target="a", from_run="disc", from_file=name).status_code == 400
    assert browser.site.queue.jobs() == []


@given(st.text() | st.lists(st.sampled_from(["..", ".", "a", "", "/", "\\", "\0"])).map("/".join))
def test_a_place_is_in_its_folder_or_refused(name: str) -> None:
    home = Path("/nowhere/runs")
    try:
        found = place(home, name)
    except RunError:
        return
    assert found != home and Path(os.path.normpath(found)).is_relative_to(home)


def test_a_model_of_this_machine_is_only_one_of_the_folder_of_models(
    browser: Browser, tiny_folder: Path
) -> None:
    for model in (str(tiny_folder / "model"), "../tiny/model", "disc", "~/model", "./a"):
        sent = browser.post("/draw", prompt="a", model=model)
        assert sent.status_code == 400 and "no model" in sent.text
        sent = browser.post("/teach", [("photos", ("a.jpg", photo()))], word="a", hub=model)
        assert sent.status_code == 400 and "no model" in sent.text
        sent = browser.post("/edit", [("picture", ("a.jpg", photo()))], target="a", clip=model)
        assert sent.status_code == 400
    for start in ("/etc/passwd", "../a", "disc/learned_embeds.safetensors", "~"):
        files = [("photos", ("a.jpg", photo()))]
        assert browser.post("/teach", files, word="a", start=start).status_code == 400
    assert browser.site.queue.jobs() == []


def test_uploads_are_limited(browser: Browser) -> None:
    many = [("photos", (f"{i}.jpg", photo())) for i in range(MOST_FILES + 1)]
    assert browser.post("/teach", many, word="a").status_code == 400
    huge = {"origin": HERE, "content-length": str(MOST_BYTES + 1)}
    assert browser.client.post("/teach", content=b"", headers=huge).status_code == 413
    for content in (b"", b"no picture", photo()[:100]):
        sent = browser.post("/teach", [("photos", ("a.jpg", content))], word="a")
        assert sent.status_code == 400 and 'class="refused"' in sent.text
    assert browser.post("/teach", [("photos", ("a.exe", b"MZ"))], word="a").status_code == 400
    assert browser.post("/files", [("file", ("a.pt", b"no word"))]).status_code == 400
    left = [p for p in (browser.site.runs / ".web").rglob("*") if p.is_file()]
    assert left == []


def test_an_upload_that_does_not_say_how_long_it_is_ends_too(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evoken.web.safety.MOST_BYTES", 10_000)

    def endless() -> Iterator[bytes]:
        head = 'Content-Disposition: form-data; name="photos"; filename="a.jpg"\r\n\r\n'
        yield b"--x\r\n" + head.encode()
        for _ in range(50):
            yield b"\0" * 1000

    kind = {"content-type": "multipart/form-data; boundary=x", "origin": HERE}
    with pytest.raises(ClientDisconnect):
        browser.client.post("/teach", content=endless(), headers=kind)
    assert browser.site.queue.jobs() == []


def test_nothing_of_what_a_camera_wrote_is_kept_or_given_out(
    browser: Browser, tmp_path: Path
) -> None:
    keep_pictures([("a.jpg", photo(exif=True))], tmp_path, "")
    assert b"camera" in photo(exif=True)
    with Image.open(tmp_path / "a.png") as kept:
        assert not kept.getexif() and not kept.info and kept.size == (40, 30)
    with Image.open(browser.site.runs / "disc" / "inputs" / "00.png") as foreign:
        data = Image.Exif()
        data[0x010F] = "a camera"
        foreign.save(browser.site.runs / "disc" / "inputs" / "00.png", exif=data)
    given_out = browser.client.get("/picture/disc/file/inputs/00.png").content
    assert b"camera" not in given_out
    with Image.open(io.BytesIO(given_out)) as shown:
        assert not shown.getexif()


def test_what_is_shown_as_a_mask_is_learned_as_one(tmp_path: Path) -> None:
    files = [("cat.jpg", photo()), ("cat_mask.jpg", mask()), ("ski-mask.jpg", photo())]
    files += [("Cat.txt", b"on a sofa"), ("dog.MASKLABEL.png", mask()), ("dog.png", photo())]
    keep_pictures(files, tmp_path, "")
    names = {p.name for p in tmp_path.iterdir()}
    assert names == {"cat.png", "cat.mask.png", "ski-mask.png", "Cat.txt"} | {
        "dog.png",
        "dog.mask.png",
    }
    found = load_images(tmp_path, 16)
    assert found.names == ("cat.png", "dog.png", "ski-mask.png")
    assert found.annotations.masks is not None


def test_pictures_that_differ_in_their_endings_are_both_kept(tmp_path: Path) -> None:
    keep_pictures([("cat.jpg", photo()), ("cat.webp", photo())], tmp_path, "")
    assert {p.name for p in tmp_path.iterdir()} == {"cat.png", "cat-2.png"}


def test_pictures_keep_their_colours_and_what_is_given_out_its_size() -> None:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {bytes(profile[i : i + 4]): i for i in range(132, 132 + 12 * profile[131], 12)}
    for other in (b"TRC", b"XYZ"):  # of a device whose red is our blue
        red, blue = (tags[letter + other] + 4 for letter in (b"r", b"b"))
        profile[red : red + 8], profile[blue : blue + 8] = (
            profile[blue : blue + 8],
            profile[red : red + 8],
        )
    file = io.BytesIO()
    Image.new("RGB", (3000, 20), (255, 0, 0)).save(file, "PNG", icc_profile=bytes(profile))
    with Image.open(io.BytesIO(as_seen(file.getvalue(), Path("a.png")))) as seen:
        assert seen.size == (3000, 20) and "icc_profile" not in seen.info
        channels = [channel.getextrema() for channel in seen.split()]
        assert [round(high / 255) for _, high in channels] == [0, 0, 1]


def test_the_field_says_what_is_a_mask_and_not_the_name(browser: Browser) -> None:
    site = browser.site
    site.queue._ended.set()  # nothing of it is to run
    files = [("picture", ("ski-mask.png", photo())), ("mask", ("white.png", mask()))]
    coloured = [files[0], ("mask", ("white.png", photo()))]
    sent = browser.post("/edit", coloured, target="a dog")
    assert sent.status_code == 400 and "is in colours, but must be white" in sent.text
    assert browser.post("/edit", files, target="a dog").status_code == 200
    [job] = site.queue.jobs()
    modes = {}
    for name in ("ski-mask.png", "mask/white.png"):
        with Image.open(site.queue.folder(job) / name) as kept:
            modes[name] = kept.mode
    assert modes == {"ski-mask.png": "RGB", "mask/white.png": "L"}
    sent = browser.post("/edit", [*files, ("mask", ("b.png", mask()))], target="a dog")
    assert sent.status_code == 400 and "one mask at most (got 2)" in sent.text
    assert len(site.queue.jobs()) == 1


def test_uploads_go_with_their_job(browser: Browser) -> None:
    site = browser.site
    sent = browser.post("/teach", [("photos", ("a.jpg", photo()))], word="a", model="stickers")
    assert sent.status_code == 200
    [draft] = site.queue.jobs()
    assert (site.queue.folder(draft) / "photos" / "a.png").is_file()
    browser.post(f"/teach/{draft.id}/discard")
    assert not site.queue.folder(draft).exists() and site.queue.jobs() == []


def test_what_people_write_is_shown_as_text(browser: Browser) -> None:
    site = browser.site
    site.queue._ended.set()  # nothing of it is to run
    site.queue.add(NASTY, ("learn", NASTY), "disc")
    site.queue.add(NASTY, ("generate", "--", NASTY))
    for address in ("/queue", "/words", "/words/disc", "/status", "/draw"):
        text = browser.get(address)
        assert "<img src=x" not in text
    for address, form in (
        ("/draw", {"prompt": NASTY, "model": NASTY}),
        ("/edit", {"target": NASTY, "source": NASTY, "model": NASTY}),
        ("/teach", {"word": NASTY, "kind": NASTY, "model": NASTY}),
    ):
        text = browser.post(address, **form).text
        assert "<img src=x" not in text and "&lt;img src=x" in text
    files = [("photos", (f"{NASTY}.jpg", b"no picture"))]
    text = browser.post("/teach", files, word="a", model="stickers").text
    assert "<img src=x" not in text and "is not an image" in text


@given(st.text())
def test_a_safe_name_is_one_name(text: str) -> None:
    name = safe_name(text)
    assert name and "/" not in name and not name.startswith(".") and name.isprintable()
    assert len(name) < 80


def test_answers_with_letters_that_cannot_be_seen_are_refused() -> None:
    for answer in ("a\0b", "a\x1b[2J", "‮", "x" * 3000):
        with pytest.raises(EvokenError):
            text_of({"a": answer}, "a")


def test_errors_name_what_the_form_calls_it() -> None:
    assert for_people("`validation_draws` must be 1.") == "“Validation draws” must be 1."
    assert for_people("--popsize must be 4.") == "“Popsize” must be 4."


def test_a_second_page_on_a_folder_is_refused(browser: Browser) -> None:
    with pytest.raises(RunError, match="another page works on"), opened(browser.site.runs):
        pass


def test_what_a_report_links_to_is_there(browser: Browser) -> None:
    report = browser.get(REPORT)
    links = {link for link in re.findall(r'href="([^"#]+)"', report) if "://" not in link}
    assert "curves.csv" in links
    for link in links:
        assert browser.client.get(f"/report/disc/page/{link}").status_code == 200, link


@pytest.mark.parametrize("name", ["disc#2", "disc?x", "a b+c&d"])
def test_names_of_runs_mean_themselves_in_addresses(
    browser: Browser, finished: Path, name: str
) -> None:
    shutil.copytree(finished, browser.site.runs / name)
    for page in ("/words", f"/words/{quote(name)}", f"/draw?word={quote(name)}"):
        text = browser.get(page)
        addresses = re.findall(r'(?:href|src|action|data-live)="(/[^"]+)"', text)
        assert any(quote(name) in address for address in addresses) or page.startswith("/draw")
        for address in {
            html.unescape(a) for a in addresses if not a.startswith(("/do/", "/compare"))
        }:
            assert browser.client.get(address).status_code in (200, 405), address
    deleting = f'action="/do/delete/{quote(name)}"'
    assert deleting in browser.get(f"/words/{quote(name)}")
    browser.post(f"/do/delete/{quote(name)}")
    assert not (browser.site.runs / name).exists() and (browser.site.runs / "disc").is_dir()


@pytest.mark.parametrize("state", ["waiting", "running", "draft"])
def test_jobs_that_somebody_else_has_put_into_the_folder_do_not_run(
    tmp_path: Path, state: str
) -> None:
    folder = tmp_path / "runs" / ".web" / "jobs" / "1"
    folder.mkdir(parents=True)
    made = {"id": "1", "title": "x", "arguments": ["runs", "--json"], "run": "", "state": state}
    (folder / "job.json").write_text(json.dumps(made | {"seal": "0" * 64}))
    with opened(tmp_path / "runs") as browser:
        time.sleep(0.5)
        assert [job.state for job in browser.site.queue.jobs()] == ["stopped"]
        assert "evoken runs --json" in browser.get("/queue")
        assert not (folder / "log.txt").exists()


@pytest.mark.parametrize(
    "changed",
    [{"id": "/elsewhere"}, {"id": "2"}, {"arguments": []}, {"arguments": [1]}, {"run": 3}],
)
def test_jobs_of_another_kind_are_none(tmp_path: Path, changed: dict[str, object]) -> None:
    folder = tmp_path / "runs" / ".web" / "jobs" / "1"
    folder.mkdir(parents=True)
    made = {"id": "1", "title": "x", "arguments": ["runs"], "run": "", "state": "done"}
    (folder / "job.json").write_text(json.dumps(made | changed))
    with opened(tmp_path / "runs") as browser:
        assert browser.site.queue.jobs() == []
        assert browser.client.get("/queue").status_code == 200


def test_a_queue_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs" / ".web").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"), opened(tmp_path / "runs"):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("others", ['x={"a":1}', "a/b=1", "=; ;;", 'evoken_other="'])
def test_cookies_of_other_servers_do_not_matter(tmp_path: Path, others: str) -> None:
    with opened(tmp_path / "runs", token="a-long-enough-token", hosts=()) as browser:
        assert browser.client.get("/words?token=a-long-enough-token").status_code == 200
        [(name, ours)] = dict(browser.client.cookies).items()
        browser.client.cookies.clear()
        headers = {"cookie": f"{others}; {name}={ours}"}
        assert browser.client.get("/words", headers=headers).status_code == 200
        assert browser.client.get("/words", headers={"cookie": others}).status_code == 401


def test_odd_hosts_and_names_are_answered(browser: Browser) -> None:
    assert browser.client.get("/words", headers={"host": "["}).status_code == 421
    assert browser.client.get("/words/" + "日" * 100).status_code == 400


@pytest.mark.parametrize("end", [".mask.png", "-masklabel.PNG", "_mask.jpg"])
def test_a_mask_stays_one_however_long_its_name(end: str) -> None:
    name = safe_name("x" * 200 + end)
    assert name.endswith(end) and len(name) < 100
