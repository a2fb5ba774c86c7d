"""Annotation files as one dataset of encoded samples; what cannot be used comes out as a BadSample."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch.utils.data import Dataset

from data.samples.annotations import AnnotationError, AnnotationFile, Sample
from data.samples.encoder import Example, SampleEncoder
from data.video.frame_plan import FrameTimes

__all__ = ["AnnotationDataset", "BadSample", "DataArguments", "Example", "SampleEncoder"]


@dataclass
class DataArguments:
    """Which samples are trained on, and how they are read."""

    annotation_paths: list[str] = field(
        metadata={"help": "JSONL files, one sample a line (data/samples/annotations.py shows the format)"}
    )
    annotation_weights: list[float] | None = field(
        default=None,
        metadata={"help": "each file's share of the samples drawn, relative to their sum; default: by its size"},
    )
    media_root: str | None = field(
        default=None, metadata={"help": "folder in which videos and images are looked for before beside the file"}
    )
    max_tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "pack samples into one row of at most so many tokens, without padding, each seeing only itself; "
            "at least --max_length; it replaces --per_device_train_batch_size"
        },
    )
    with_context: bool = field(default=False, metadata={"help": "add title and earlier speech to a stream's query"})
    max_length: int = field(
        default=32768, metadata={"help": "tokens; over it, earlier speech is cut, then the sample is bad"}
    )
    frame_times: FrameTimes = field(
        default="grid", metadata={"help": "time of a frame: on the 2 fps grid, or its end as published (end32)"}
    )
    decode_cache: str | None = field(
        default=None, metadata={"help": "folder that keeps decoded frames, for small data read many times"}
    )
    vision_cache: str | None = field(
        default=None, metadata={"help": "folder that keeps the frozen tower's features (needs --freeze_modules visual)"}
    )
    vision_cache_gb: float | None = field(
        default=None, metadata={"help": "size at which the vision cache stops growing; default: no limit"}
    )
    prefetch_mb: int = field(
        default=4096,
        metadata={"help": "bytes of samples that a process's workers may decode ahead, beside one sample each"},
    )
    blind: bool = field(default=False, metadata={"help": "replace frames by noise (the control experiment)"})
    max_bad_samples: float = field(
        default=0.01, metadata={"help": "share of samples that may be bad before the run stops"}
    )
    bad_sample_report: str | None = field(
        default=None, metadata={"help": "JSON report of bad samples; default: bad_samples.json in --output_dir"}
    )


@dataclass(frozen=True)
class BadSample:
    """A sample that cannot be used: its line, a short cause ("missing_file") and the message for people."""

    path: str
    line_no: int
    cause: str
    message: str


class AnnotationDataset(Dataset):
    """The samples of several annotation files, one after the other.

    `[i]` is an Example, or a BadSample for whoever loads to count and replace: nothing is swapped here.
    media_root: as AnnotationFile's. Opening raises UserError for a file that is missing, empty or something else.
    """

    def __init__(self, annotation_paths: Sequence[str], encoder: SampleEncoder, media_root: str | None = None):
        self.files = [AnnotationFile(path, media_root) for path in annotation_paths]
        self.encoder = encoder
        self._ends = list(itertools.accumulate(map(len, self.files)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def sample(self, i: int) -> Sample:
        """Sample i, parsed and checked but not encoded. Raises AnnotationError where it is malformed."""
        k = self.source_of(i)
        return self.files[k][i - (self._ends[k] - len(self.files[k]))]

    def source_of(self, i: int) -> int:
        """Number of the file that holds sample i."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return bisect.bisect_right(self._ends, i)

    @property
    def source_names(self) -> list[str]:
        """A short name for each file: its stem, with a number behind where several have the same."""
        stems = [file.path.stem for file in self.files]
        return [f"{stem}_{k}" if stems.count(stem) > 1 else stem for k, stem in enumerate(stems)]

    def __getitem__(self, i: int) -> Example | BadSample:
        try:
            sample = self.sample(i)
            example = self.encoder.encode(sample)
            example.source = self.source_of(i)
            example.where = sample.where
            return example
        except AnnotationError as error:
            return BadSample(error.path, error.line_no, error.cause, str(error))
