"""Nothing is reported to anybody: what the libraries beneath would tell their makers is off."""

import os
import sys

# Read when the library is imported or started, so set before that, and for child processes too.
OFF = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime >= 1.29, which diffusers imports where it is
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, and diffusers and transformers through it
    "DISABLE_TELEMETRY": "1",  # their older name for it
    "DO_NOT_TRACK": "1",  # https://consoledonottrack.com
    "RAY_USAGE_STATS_ENABLED": "0",
    "GRADIO_ANALYTICS_ENABLED": "False",
}


# Packages that do nothing but report. OpenVINO imports this one if it can, and tells Intel at each
# of its own imports; no variable stops it.
REPORTERS = ("openvino_telemetry",)


def report_nothing() -> None:
    """Whatever the environment says: who uses this program has been promised it."""
    os.environ.update(OFF)
    for name in REPORTERS:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # cannot be imported
