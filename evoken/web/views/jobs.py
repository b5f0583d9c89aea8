"""The queue, and what can be done with a job."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from evoken.web.forms import for_people
from evoken.web.job import DRAFT, FAILED, STOPPED, WAITING, Job
from evoken.web.site import Site, render, site_of

RESUMED = ("learn", "edit", "invert")  # commands that go on with a run folder


def jobs(request: Request) -> Response:
    """All jobs, those to come first."""
    return render(request, "jobs.html", title="Queue", **_told(site_of(request)))


def live(request: Request) -> Response:
    """The part of that page that changes."""
    return render(request, "parts/jobs.html", **_told(site_of(request)))


def status(request: Request) -> Response:
    """What every page shows in its head: what is at work."""
    return render(request, "parts/status.html")


def _told(site: Site) -> dict[str, Any]:
    found = [job for job in site.queue.jobs() if job.state != DRAFT]
    return {"jobs": [(job, told(site, job, found)) for job in reversed(found)]}


def told(site: Site, job: Job, jobs: Sequence[Job] | None = None) -> str:
    """Where a job is, in a line.

    Args:
        jobs: of the queue, where they are known.
    """
    if job.state == FAILED:
        return for_people(site.queue.reason(job))
    if job.state == WAITING:
        known = site.queue.jobs() if jobs is None else jobs
        before = [j for j in known if j.state == WAITING]
        return f"waits, number {before.index(job) + 1} of {len(before)}" if job in before else ""
    lines = [line for line in site.queue.log(job) if line.strip()]
    return lines[-1] if lines and job.state not in (STOPPED,) else ""


def stop(request: Request) -> Response:
    """Interrupt a job, or take it out of the queue."""
    site = site_of(request)
    if job := site.queue.job(request.path_params["id"]):
        site.queue.stop(job)
    return RedirectResponse(back(request), 303)


def again(request: Request) -> Response:
    """Put a job that failed or was stopped into the queue once more, as it was."""
    site = site_of(request)
    job = site.queue.job(request.path_params["id"])
    if job and job.state in (FAILED, STOPPED):
        begun = job.verb in RESUMED and job.run and (site.runs / job.run).is_dir()
        resumed = begun and "--resume" not in job.arguments
        arguments = (job.verb, "--resume", job.run) if resumed else job.arguments
        site.queue.keep(replace(job, state=WAITING, arguments=arguments))
    return RedirectResponse(back(request), 303)


def remove(request: Request) -> Response:
    """Forget a job and its uploads; its run folder stays."""
    site = site_of(request)
    if job := site.queue.job(request.path_params["id"]):
        site.queue.remove(job)
    return RedirectResponse("/queue", 303)


def back(request: Request) -> str:
    """The page of this server that the request came from."""
    return request.query_params.get("to", "/queue") if _own(request) else "/queue"


def _own(request: Request) -> bool:
    to = request.query_params.get("to", "")
    return to.startswith("/") and not to.startswith(("//", "/\\"))


ROUTES = [
    Route("/queue", jobs),
    Route("/queue/live", live),
    Route("/status", status),
    Route("/job/{id}/stop", stop, methods=["POST"]),
    Route("/job/{id}/again", again, methods=["POST"]),
    Route("/job/{id}/remove", remove, methods=["POST"]),
]
