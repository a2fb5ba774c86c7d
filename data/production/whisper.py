"""Whisper models in faster-whisper (CTranslate2), as the stages that listen load them."""

from typing import TYPE_CHECKING

from data.production.stage import Worker
from utils.errors import UserError

if TYPE_CHECKING:
    from faster_whisper import WhisperModel


def load_whisper(name: str, worker: Worker, compute_type: str = "default") -> "WhisperModel":
    """Load a model by a name of faster-whisper, a hub id or a folder, onto the worker's device and threads.

    compute_type: CTranslate2's number format; "default" is the file's. Raises UserError where none can be loaded.
    """
    from faster_whisper import WhisperModel

    device = "cuda" if worker.device.startswith("cuda") else "cpu"
    try:
        return WhisperModel(name, device=device, compute_type=compute_type, cpu_threads=worker.n_threads)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            f"--model {name}: no Whisper model of faster-whisper there ({error}); give a folder with its model.bin, or "
            "a name such as base.en where the hub can be reached"
        ) from error
