"""A model behind an OpenAI-compatible endpoint as a predictor: it is sent a clip's frames as pictures."""

import dataclasses
import io
from dataclasses import asdict

from PIL import Image
from torch import Tensor

from data.video.frame_plan import Clip, VideoLimits
from evaluation.predictors.clip_writer import ClipWriter
from evaluation.predictors.predictor_arguments import CaptionerArguments, model_id
from evaluation.tasks.item import Written
from utils.endpoint import SEED, Endpoint, EndpointArguments, RequestFailed, connect, user_message

JPEG_QUALITY = 90


class Declined(Exception):
    """Raised where the model declines to answer, with its words."""


class ApiCaptioner(ClipWriter):
    """One request for each item: at most max_images frames as JPEG data, then the text."""

    own_errors = (RequestFailed, Declined)

    def __init__(self, endpoint: Endpoint, max_images: int = 32):
        super().__init__(model_id(endpoint.model), VideoLimits.from_environment(), max_images)
        self.endpoint = endpoint
        self.settings = {
            "api_model": endpoint.model, "place": endpoint.place, "video_limits": asdict(self.limits),
            "jpeg_quality": JPEG_QUALITY, "temperature": 0, "seed": SEED,
        }  # fmt: skip

    @classmethod
    def connect(
        cls, arguments: CaptionerArguments, endpoint: EndpointArguments, n_processes: int = 1
    ) -> "ApiCaptioner":
        """Connect to a command's model. Money and requests a minute are shared evenly by the run's processes."""
        shares = {
            name: None if getattr(endpoint, name) is None else getattr(endpoint, name) / n_processes
            for name in ("max_cost", "requests_per_minute")
        }
        share = dataclasses.replace(endpoint, **shares)
        return cls(connect(arguments.api_model, share), arguments.max_images)

    def write(self, clip: Clip, ask: Written) -> str:
        """The model's reply. Raises RequestFailed or Declined where there is none."""
        parts = [jpeg(frame) for frame in clip.frames]
        reply = self.endpoint.complete([user_message([*parts, ask.text])], ask.max_new_tokens)
        if reply.refused:
            raise Declined(reply.text)
        return reply.text.strip()


def jpeg(frame: Tensor) -> bytes:
    """A frame, uint8 [3, H, W], as a JPEG picture."""
    buffer = io.BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
