"""The queue with real commands: they finish, fail, stop, go on, and outlive their server."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from evoken.options import fields_of
from evoken.run_folder import held
from evoken.spec import ModelSpec
from evoken.textual_inversion.settings import LearnSettings
from evoken.web import jobs, supervisor
from evoken.web.forms import options_of, questions
from evoken.web.job import DONE, FAILED, RUNNING, STOPPED, read_job
from evoken.web.jobs import Queue
from tests.test_web_safety import photo
from tests.web import TINY, Browser, opened, photos_of, state_in


@pytest.fixture
def browser(tmp_path: Path, tiny_folder: Path) -> Iterator[Browser]:
    with opened(tmp_path / "runs", tiny_folder) as found:
        yield found


def begun(browser: Browser, photos: Path, calls: int = 128) -> str:
    """A draft; returns its address."""
    sent = browser.post("/teach", photos_of(photos), word="disc", calls=str(calls), **TINY)
    assert sent.status_code == 200, sent.text
    return str(sent.url.path)


def test_what_pictures_show_is_written_below_them(browser: Browser, photos: Path) -> None:
    (photos / "1.CAPTION").write_text("a hat\n")
    (photos / "2.txt").write_bytes(b"\xff")
    more = {"word": "ink", "kind": "style", "calls": "128", "vectors": "1", **TINY}
    draft = str(browser.post("/teach", photos_of(photos), **more).url.path)
    text = browser.wait(draft, lambda page: "GB</b> of memory" in page or "refused" in page)
    assert 'name="caption of 1.png" value="a hat"' in text and "no text in UTF-8" in text
    browser.post(f"{draft}/captions", **{"caption of 2.png": "a hat"})
    text = browser.wait(draft, lambda page: "GB</b> of memory" in page or "refused" in page)
    assert "0.txt" in text  # is asked for
    kept = browser.site.runs / browser.site.queue.folder(browser.site.queue.jobs()[0]) / "photos"
    given = {f"caption of {i}.png": f" a  <cat> {i} " for i in range(3)} | {"caption of x": "y"}
    asked = browser.post(f"{draft}/captions", **given, **{"caption of 3.png": ""})
    assert asked.url.path == draft and 'value="a &lt;cat&gt; 0"' in asked.text
    assert {p.name: p.read_text() for p in kept.glob("*.*") if p.suffix != ".png"} == {
        f"{i}.txt": f"a <cat> {i}\n" for i in range(3)
    }
    text = browser.wait(draft, lambda page: "GB</b> of memory" in page or "refused" in page)
    assert "0.txt" not in text and "3.txt" in text
    refused = browser.post(f"{draft}/captions", **{"caption of 0.png": "a\u202ecat"})
    assert refused.status_code == 400 and "cannot be seen" in refused.text
    browser.post(f"{draft}/start", **{"caption of 3.png": "a hat"})  # goes with the others
    assert (kept / "3.txt").read_text() == "a hat\n"


def test_photographs_become_a_word_for_other_programs(browser: Browser, photos: Path) -> None:
    draft = begun(browser, photos)
    text = browser.wait(draft, lambda page: "GB</b> of memory" in page or "refused" in page)
    assert "evoken learn" in text and "--word=" in text and "refused" not in text
    assert "only draws" not in text
    for name in ("0.png", "1.png"):
        assert browser.client.get(f"{draft}/photo/{name}").headers["content-type"] == "image/png"
    assert not (browser.site.runs / "disc").exists()  # nothing was started
    page = browser.post(f"{draft}/start").url.path
    assert page == "/words/disc"
    assert browser.client.get(f"{draft}/check").status_code == 304  # asked while the page is left
    assert browser.client.get("/teach/nothing/check").status_code == 404
    text = browser.wait(page, lambda page: state_in(page) == "finished")
    assert "&lt;disc&gt;" in text and "previews/" in text and "ComfyUI" in text
    content = browser.client.get("/word-file/comfyui/disc").content
    (browser.site.runs / "out.safetensors").write_bytes(content)
    assert load_file(browser.site.runs / "out.safetensors")
    [job] = browser.site.queue.jobs()
    assert job.state == DONE and job.seconds > 0
    # The command that the page shows gives the same word.
    shown = ["learn", *job.arguments[1:-1], "--output=again"]
    subprocess.run([sys.executable, "-m", "evoken", *shown], cwd=browser.site.runs, check=True)
    words = [(browser.site.runs / r / "learned_embeds.safetensors") for r in ("disc", "again")]
    assert words[0].read_bytes() == words[1].read_bytes()

    page = browser.post("/do/pick/disc", number="0").url.path
    text = browser.wait(page, lambda text: "?generation=0000" in text)
    assert browser.client.get("/word-file/comfyui/disc?generation=0000").status_code == 200

    draw = browser.post("/draw", prompt="a <disc>", word="disc", count="2", steps="2")
    text = browser.wait(f"{draw.url.path}/live", lambda t: state_in(t) in ("done", "failed"))
    pictures = re.findall(r'img class="art" src="(/drawn/[^"]+)"', text)
    assert len(pictures) == 2
    assert browser.client.get(pictures[0]).headers["content-type"] == "image/png"

    merged = browser.post("/merge", run=["disc", "again"], name="both", **{"weight-disc": "0.7"})
    assert merged.status_code == 200
    browser.wait("/words", lambda text: "both.safetensors" in text)
    assert "0.7" in browser.get("/words/both.safetensors")
    assert "side by side" in browser.get("/compare?run=disc&run=again")

    browser.post("/do/delete/disc")
    assert not (browser.site.runs / "disc").exists()
    assert {j.run for j in browser.site.queue.jobs()} <= {""}


def test_a_draft_that_is_changed_stays_the_same_run(browser: Browser, photos: Path) -> None:
    files = [*photos_of(photos), ("photos", ("notes.pdf", b"%PDF"))]
    draft = str(browser.post("/teach", files, word="disc", calls="128", **TINY).url.path)
    assert draft in browser.get("/")  # where else should one find it again?
    text = browser.wait(draft, lambda page: "GB</b> of memory" in page)
    assert "not used: notes.pdf" in text
    form = browser.get(f"/?draft={draft.rpartition('/')[2]}")  # "Change something"
    assert f"{draft}/photo/" in form and 'value="disc"' in form
    refused = browser.post("/teach", word=" ", draft=draft.rpartition("/")[2], **TINY)
    assert refused.status_code == 400 and "The word has no name yet" in refused.text
    again = browser.post("/teach", word="disc", calls="64", draft=draft.rpartition("/")[2], **TINY)
    assert again.url.path == draft
    text = browser.wait(draft, lambda page: "GB</b> of memory" in page)
    assert "--output=disc<" in text and "--calls=64" in text and "not used: notes.pdf" in text
    browser.post(f"{draft}/discard")
    assert draft not in browser.get("/") and not browser.site.queue.jobs()


def test_what_runs_in_a_terminal_is_stopped_there(browser: Browser, finished: Path) -> None:
    shutil.copytree(finished, browser.site.runs / "disc")
    with held(browser.site.runs / "disc"):
        for action in ("stop", "keep"):
            sent = browser.post(f"/do/{action}/disc")
            assert sent.status_code == 400 and "runs in a terminal" in sent.text
    assert not browser.site.queue.jobs()


def test_what_never_began_is_stopped_and_deleted(browser: Browser) -> None:
    job = browser.site.queue.add("Teach <a>", ("learn", "photos"), "a", state=STOPPED)
    (browser.site.runs / "odd").mkdir()
    for name in ("a", "odd"):
        assert browser.post(f"/do/stop/{name}").status_code < 500
    browser.post("/do/delete/a")
    browser.post("/do/delete/odd")
    assert not (browser.site.runs / "odd").exists() and job not in browser.site.queue.jobs()


def test_an_edit_that_cannot_be_made_is_refused_and_one_that_failed_is_changed(
    browser: Browser,
) -> None:
    queue = browser.site.queue
    queue._ended.set()  # nothing of it is to run
    picture = ("picture", ("cat.png", photo()))
    for files, answers, said in (
        ([picture], {"steps": "10", "guidance": "3", "last": "14"}, "“Last”"),
        ([picture], {"strengths": "3:5, 4:5"}, "strength"),
        ([picture], {"steps": "ten"}, "“Steps” must be a whole number (got"),
        ([picture], {"frame": "mask"}, "“Frame” mask is a square around a mask, but there is none"),
        ([picture, ("mask", ("m.png", photo()))], {"everywhere": "on"}, "“Everywhere”"),
        ([picture], {"patience": "3"}, "“Iterations”"),
    ):
        sent = browser.post("/edit", files, target="a dog", **answers)
        assert sent.status_code == 400 and said in sent.text, (answers, sent.text)
    assert not queue.jobs()
    sent = browser.post("/edit", [picture], target="a dog", strengths="3:5\n4:5", seeds="2")
    assert sent.status_code == 200
    [job] = queue.jobs()
    assert job.arguments.count("--strength=3:5") == job.arguments.count("--strength=4:5") == 1
    queue.keep(replace(job, state=FAILED))
    again = browser.get(f"/edits/{job.run}")
    assert f'href="/edit?job={job.id}"' in again
    form = browser.get(f"/edit?job={job.id}")
    assert 'value="a dog"' in form and "3:5\n4:5</textarea>" in form


def test_an_edit_without_a_picture_asks_for_one(browser: Browser) -> None:
    for name, content in (("notes.txt", b"a"), ("notes.pdf", b"%PDF")):
        sent = browser.post("/edit", [("picture", (name, content))], target="a dog")
        assert sent.status_code == 400 and "Choose one." in sent.text


def test_a_job_is_read_again_only_where_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    queue, read = Queue(tmp_path / "runs"), []
    monkeypatch.setattr(jobs, "read_job", lambda folder: read.append(folder) or read_job(folder))
    made = [queue.add(f"Draw {i}", ("generate", "a")) for i in range(3)]
    read.clear()
    for _ in range(5):
        assert queue.jobs() == made
    assert len(read) <= 3
    queue.keep(replace(made[0], state=STOPPED))
    read.clear()
    assert queue.jobs()[0].state == STOPPED and len(read) == 1


def test_a_job_that_fails_shows_its_sentence(browser: Browser, photos: Path) -> None:
    sent = browser.post("/teach", photos_of(photos), word="a", **TINY | {"model": "flow"}, axes="9")
    draft = sent.url.path
    text = browser.wait(draft, lambda page: "refused" in page or "of memory" in page)
    assert "Traceback" not in text
    draw = browser.post("/draw", prompt="a", model="flow", steps="100000")
    text = browser.wait(f"{draw.url.path}/live", lambda t: state_in(t) in ("done", "failed"))
    assert "“Steps” must be" in text and "--" not in text.partition("refused")[2][:100]
    assert "“Steps” must be" in browser.get("/queue")


def test_a_run_is_stopped_and_goes_on_after_the_server_was_there_again(
    tmp_path: Path, tiny_folder: Path, photos: Path
) -> None:
    runs = tmp_path / "runs"
    with opened(runs, tiny_folder) as browser:
        draft = begun(browser, photos, calls=100_000)
        page = browser.post(f"{draft}/start").url.path
        browser.wait(page, lambda text: "best loss" in text)
        waiting = browser.post("/draw", prompt="a", model="model", steps="2", count="1").url.path
        assert state_in(browser.get(waiting)) == "waiting"
    # The server has ended: what ran was interrupted, what waited still does.
    with opened(runs, tiny_folder) as browser:
        browser.wait(f"{waiting}/live", lambda text: state_in(text) == "done")
        text = browser.get(page)
        assert state_in(text) == "interrupted" and "Go on" in text
        browser.post("/do/go-on/disc")
        browser.wait(page, lambda text: state_in(text) == "running")
        browser.post("/do/keep/disc")
        text = browser.wait(page, lambda text: state_in(text) == "finished")
        assert "ComfyUI" in text


def test_a_job_outlives_a_server_that_is_killed(
    tmp_path: Path, tiny_folder: Path, photos: Path
) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    shutil.copytree(photos, runs / "photos")
    given = TINY | {n: str(tiny_folder / n) for n in ("model", "clip")}
    options = [f"--{n.replace('_', '-')}={v}" for n, v in given.items()]
    arguments = ("learn", "photos", *options, "--calls=100000", "--output=disc")
    queue = Queue(runs)
    job = queue.add("Teach", arguments, "disc")
    queue.start()
    until = time.monotonic() + 60
    while not (runs / "disc" / "records.jsonl").exists():
        assert time.monotonic() < until
        time.sleep(0.05)
    queue._ended.set()  # as SIGKILL: nobody interrupts the job
    queue._thread.join()
    assert queue._held is not None
    os.close(queue._held)
    after = Queue(runs)
    after.start()
    time.sleep(0.5)
    [found] = after.jobs()
    assert found.state == RUNNING and found.id == job.id
    after.close()
    [found] = after.jobs()
    assert found.state == STOPPED
    assert "Continue with: evoken learn --resume disc" in "\n".join(after.log(found))
    assert queue._process is not None
    queue._process.wait(30)


def test_a_job_whose_process_is_gone_is_stopped(tmp_path: Path) -> None:
    queue = Queue(tmp_path)
    job = queue.add("Teach", ("learn", "x"), "x")
    queue.keep(replace(job, state=RUNNING))
    queue.start()
    until = time.monotonic() + 10
    while queue.jobs()[0].state == RUNNING:
        assert time.monotonic() < until
        time.sleep(0.05)
    queue.close()
    assert queue.jobs()[0].state == STOPPED


def test_forms_ask_for_every_setting_once() -> None:
    for settings in (LearnSettings, ModelSpec):
        asked = [q for found in questions(settings).values() for q in found]
        assert sorted(q.name for q in asked) == sorted(fields_of(settings))
        for question in asked:
            about = fields_of(settings)[question.name].about
            assert (
                set(about.choices) <= set(question.choices)
                and (about.off or about.help)[:20] in question.help
            )


def test_answers_become_the_options_of_the_command() -> None:
    answers = {"calls": "600", "sigma": "0.3", "masks": "on", "captions": "", "search": "cma"}
    answers["preview_prompts"] = "a {}\na {} --x\n"
    assert sorted(options_of(LearnSettings, answers)) == [
        "--calls=600",
        "--no-masks",
        "--preview-prompt=a {}",
        "--preview-prompt=a {} --x",
        "--search=cma",
        "--sigma=0.3",
    ]


def test_the_server_ends_by_ctrl_c(tmp_path: Path) -> None:
    address = [sys.executable, "-m", "evoken", "web", "runs", "--no-browser", "--port", "0"]
    for options, host in ((("--host", "0.0.0.0"), "?token="), ((), "")):
        with subprocess.Popen(
            [*address, *options],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as server:
            assert server.stdout is not None
            assert host in server.stdout.readline()
            time.sleep(1)
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 130


def test_a_run_is_stopped_whichever_of_its_jobs_works(browser: Browser, photos: Path) -> None:
    draft = begun(browser, photos, calls=100_000)
    browser.wait(draft, lambda page: "GB</b> of memory" in page)
    page = browser.post(f"{draft}/start").url.path
    browser.wait(page, lambda page: "previews/" in page)
    browser.post("/do/pick/disc", number="0")  # comes after what runs, and was made later
    browser.post("/do/go-on/disc")  # it goes on already
    assert [job.verb for job in browser.site.queue.jobs()].count("learn") == 1
    browser.post("/do/stop/disc")
    browser.wait(page, lambda page: state_in(page) == "interrupted")
    assert {job.state for job in browser.site.queue.jobs()} == {STOPPED}
    pick = next(job for job in browser.site.queue.jobs() if job.verb == "pick")
    browser.post(f"/job/{pick.id}/again")
    browser.wait("/queue", lambda page: browser.site.queue.job(pick.id).state == DONE)
    assert (browser.site.runs / "disc" / "picked" / "0000.safetensors").is_file()


def test_a_run_that_never_began_goes_on_with_its_own_photographs(
    browser: Browser, photos: Path
) -> None:
    browser.site.queue.add("Wait", ("runs",), state=RUNNING)  # holds the queue, so it seems
    draft = begun(browser, photos)
    browser.wait(draft, lambda page: "GB</b> of memory" in page)
    browser.post(f"{draft}/start")
    browser.post("/do/stop/disc")
    browser.post("/do/go-on/disc")
    assert [job.run for job in browser.site.queue.jobs()].count("disc") == 1


def test_a_queue_that_could_not_go_on_tries_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    begin = Queue._begin

    def failing(self: Queue, job: Any) -> Any:
        tried.append(job.id)
        if len(tried) == 1:
            raise OSError(28, "No space left on device")
        return begin(self, job)

    monkeypatch.setattr(Queue, "_begin", failing)
    monkeypatch.setattr("evoken.web.jobs.AFTER_ERROR", 0.2)
    with opened(tmp_path / "runs") as browser:
        job = browser.site.queue.add("List", ("runs", "."))
        browser.wait("/queue", lambda page: browser.site.queue.job(job.id).state == DONE, 60)
    assert len(tried) == 2


def test_a_job_that_was_killed_says_so_and_an_earlier_try_no_more(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = browser.site.queue
    queue._ended.set()  # nothing of it is to run but here
    job = queue.add("Teach <a>", ("learn", "photos"), "a")
    folder = queue.folder(job)
    (folder / "log.txt").write_text("error: could not write: no space left.\n")
    killed = tmp_path / "killed"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o700)
    monkeypatch.setattr("evoken.web.supervisor.sys.executable", str(killed))
    supervisor.main(folder, browser.site.runs)
    [job] = queue.jobs()
    assert job.state == FAILED
    assert queue.reason(job) == "it was killed (SIGKILL); a system short of memory does that"
