"""A model behind an OpenAI-compatible endpoint as a predictor: it is sent a clip's frames as pictures."""

import dataclasses
import io
from dataclasses import asdict

from PIL import Image
from torch import Tensor

from data.video.frame_plan import Clip, VideoLimits
from evaluation.predictors.clip_writer import CHOICE_TOKENS, ClipWriter
from evaluation.predictors.predictor_arguments import AnswererArguments, CaptionerArguments, model_id
from evaluation.scoring.protocol import OURS
from evaluation.tasks.item import Answer, Choice, Written
from evaluation.tasks.reading import Unfinished, final_answer, named_option
from utils.endpoint import SEED, Endpoint, EndpointArguments, Reply, RequestFailed, connect, user_message

JPEG_QUALITY = 90
N_LOGPROBS = 20  # the most that OpenAI gives


class Declined(Exception):
    """Raised where the model declines to answer, with its words."""


class ApiCaptioner(ClipWriter):
    """One request for each item: at most max_images frames as JPEG data, then the text.

    An option is chosen by the log-probabilities of the reply's first token where the endpoint gives them, else by the
    reply's words. max_tokens: of a reply, in place of the benchmark's.
    """

    own_errors = (RequestFailed, Declined, Unfinished)

    def __init__(
        self,
        endpoint: Endpoint,
        max_images: int = 32,
        limits: VideoLimits | None = None,
        max_tokens: int | None = None,
    ):
        limits = limits or VideoLimits.from_environment()
        super().__init__(model_id(endpoint.model), limits, max_images, {"frames": OURS, "reading": OURS})
        self.endpoint, self.max_tokens = endpoint, max_tokens
        self.settings = {
            "api_model": endpoint.model, "place": endpoint.place, "video_limits": asdict(self.limits),
            "jpeg_quality": JPEG_QUALITY, "temperature": 0, "seed": SEED, "extra_body": endpoint.extra,
            "max_tokens": max_tokens,
        }  # fmt: skip

    @classmethod
    def connect(
        cls,
        arguments: CaptionerArguments | AnswererArguments,
        endpoint: EndpointArguments,
        n_processes: int = 1,
    ) -> "ApiCaptioner":
        """Connect to a command's model. Money and requests a minute are shared evenly by the run's processes."""
        shares = {
            name: None if getattr(endpoint, name) is None else getattr(endpoint, name) / n_processes
            for name in ("max_cost", "requests_per_minute")
        }
        # Of the flags, those of an endpoint alone: a command may hold them together with others.
        own = {field.name: getattr(endpoint, field.name) for field in dataclasses.fields(EndpointArguments)}
        share = EndpointArguments(**own | shares)
        limits = arguments.limits(VideoLimits.from_environment())
        return cls(connect(arguments.api_model, share), arguments.max_images, limits, arguments.max_answer_tokens)

    def write(self, clip: Clip, ask: Written) -> str:
        """The model's reply. Raises RequestFailed, Declined or Unfinished where there is none."""
        return self._said(self._ask(clip, ask.text, ask.max_new_tokens))

    def choose(self, clip: Clip, ask: Choice) -> Answer:
        """The likeliest option; its words where no log-probabilities are given. Raises as `write` does."""
        reply = self._ask(clip, f"{ask.text}\n{ask.prefix}".strip(), CHOICE_TOKENS, N_LOGPROBS)
        scores = option_logprobs(reply, ask.options)
        if scores:
            return Answer(max(scores, key=scores.get), logits=scores)
        said = self._said(reply)
        return Answer(named_option(said, ask.options) or said)

    def _ask(self, clip: Clip, text: str, max_tokens: int, n_logprobs: int = 0) -> Reply:
        parts = [*(jpeg(frame) for frame in clip.frames), text]
        reply = self.endpoint.complete([user_message(parts)], self.max_tokens or max_tokens, n_logprobs)
        if reply.refused:
            raise Declined(reply.text)
        return reply

    def _said(self, reply: Reply) -> str:
        return final_answer(reply.text, reply.cut, "raise --max_answer_tokens")


def option_logprobs(reply: Reply, options: tuple[str, ...]) -> dict[str, float] | None:
    """Log-probabilities of the options as a reply's first token; None where they are not given, or no option is among
    them. Options that are not among the likeliest stand below the last of these."""
    if not reply.logprobs:
        return None
    below = min(reply.logprobs.values()) - 1.0
    found = {
        option: max((value for token, value in reply.logprobs.items() if token.strip(" (") == option), default=None)
        for option in options
    }
    if all(value is None for value in found.values()):
        return None
    return {option: round(below if value is None else value, 6) for option, value in found.items()}


def jpeg(frame: Tensor) -> bytes:
    """A frame, uint8 [3, H, W], as a JPEG picture."""
    buffer = io.BytesIO()
    Image.fromarray(frame.permute(1, 2, 0).contiguous().numpy()).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()
