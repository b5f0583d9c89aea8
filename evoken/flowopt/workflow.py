"""What ``evoken invert`` and ``evoken edit`` do with their folder: iterates, noise, report."""

from collections.abc import Generator

from evoken.flowopt.compare import measures
from evoken.flowopt.edit import Iterate, iterates
from evoken.flowopt.folder import FlowOptRun
from evoken.flowopt.report import write_report
from evoken.models.base import Model
from evoken.models.clip import Clip
from evoken.run_folder import held


def run_into(folder: FlowOptRun, model: Model, clip: Clip | None) -> Generator[Iterate]:
    """Do, or go on with, what a folder's config asks for; yields every new iterate.

    The folder holds every finished iterate at any time: an interrupted run loses at most the one it
    was in.
    """
    with held(folder.path):
        task, earlier = folder.task(model.size), folder.earlier()
        for iterate in iterates(task, model, folder.settings, clip, earlier):
            if iterate.step.iteration >= len(earlier):
                folder.save(iterate)
                yield iterate
        rebuilt = model.decode(model.encode(task.images))
        rmse, psnr, ssim = (values.tolist() for values in measures(task.images, rebuilt))
        write_report(folder, {"rmse": rmse, "psnr": psnr, "ssim": ssim})
