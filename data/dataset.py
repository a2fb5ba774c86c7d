"""Annotation files as one dataset of encoded samples; what cannot be used comes out as a BadSample."""

import bisect
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from torch.utils.data import Dataset

from data.annotations import AnnotationError, AnnotationFile, Sample
from data.frame_plan import FrameTimes
from data.sample_encoder import Example, SampleEncoder

__all__ = ["AnnotationDataset", "BadSample", "DataArguments", "Example", "SampleEncoder"]


@dataclass
class DataArguments:
    """Which samples are trained on, and how they are read."""

    annotation_paths: list[str] = field(
        metadata={"help": "JSONL files, one sample a line (data/annotations.py shows the format)"}
    )
    with_context: bool = field(default=False, metadata={"help": "add title and earlier speech to a stream's query"})
    max_length: int = field(
        default=32768, metadata={"help": "tokens; over it, earlier speech is cut, then the sample is bad"}
    )
    frame_times: FrameTimes = field(
        default="grid",
        metadata={"help": "time of a frame: on the 2 fps grid, or its end as published (end32)"},
    )
    decode_cache: str | None = field(
        default=None, metadata={"help": "folder that keeps decoded frames, for small data read many times"}
    )
    blind: bool = field(default=False, metadata={"help": "replace frames by noise (the control experiment)"})
    max_bad_samples: float = field(
        default=0.01, metadata={"help": "share of samples that may be bad before the run stops"}
    )
    bad_sample_report: str | None = field(
        default=None,
        metadata={"help": "JSON report of bad samples; default: bad_samples.json in --output_dir"},
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
    Opening raises UserError for a file that is missing or empty.
    """

    def __init__(self, annotation_paths: Sequence[str], encoder: SampleEncoder):
        self.files = [AnnotationFile(path) for path in annotation_paths]
        self.encoder = encoder
        self._ends = list(itertools.accumulate(map(len, self.files)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def sample(self, i: int) -> Sample:
        """Sample i, parsed and checked but not encoded. Raises AnnotationError where it is malformed."""
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        k = bisect.bisect_right(self._ends, i)
        return self.files[k][i - (self._ends[k] - len(self.files[k]))]

    def __getitem__(self, i: int) -> Example | BadSample:
        try:
            return self.encoder.encode(self.sample(i))
        except AnnotationError as error:
            return BadSample(error.path, error.line_no, error.cause, str(error))
