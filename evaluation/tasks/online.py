"""Questions in mid-stream: put to a stream that has been watched up to their time; and the control that streaming has
to beat: the last few frames before the question, and nothing else."""

from dataclasses import dataclass, field, replace

from evaluation.scoring.protocol import OURS
from evaluation.tasks.item import ClipPlan, Commentary, MidStream
from evaluation.tasks.task import Task
from models.streaming.options import DEFAULT_QUERY
from utils.errors import UserError

RECENT_FPS = 1.0  # as in the published control
STEP_TOKENS = 16


@dataclass
class OnlineArguments:
    """Whether a video is watched as it plays."""

    online: bool = field(
        default=False,
        kw_only=True,
        metadata={"help": "watch each video once, as it plays, and put each question to the stream at its time"},
    )
    recent_frames: int | None = field(
        default=None,
        kw_only=True,
        metadata={"help": "the control: show only the last N frames before a question, one a second"},
    )

    def __post_init__(self) -> None:
        if self.recent_frames is not None and (self.recent_frames < 2 or self.recent_frames % 2):
            raise UserError(f"--recent_frames {self.recent_frames}: an even number, at least 2, is needed")
        if self.online and self.recent_frames:
            raise UserError("--online watches the whole stream and --recent_frames its end: give one of them")

    @property
    def way(self) -> str:
        """How questions are asked: the protocol, or online."""
        return "online" if self.online else self.protocol


def mid_stream(text: str, max_new_tokens: int) -> MidStream:
    """A question to a stream that says nothing while it watches."""
    return MidStream(Commentary(DEFAULT_QUERY, STEP_TOKENS, 1.0, is_silent=True), text, max_new_tokens)


def with_recent_frames(task: Task, n_frames: int | None) -> Task:
    """The task with nothing shown but the last frames before each question; unchanged without a number."""
    if n_frames is None:
        return task
    items = [replace(item, clip=item.clip and last_frames(item.clip, n_frames)) for item in task.items]
    name = f"{task.protocol}-recent{n_frames}"
    return replace(task, items=items, protocol=name, parts=task.parts.changed({"frames": OURS}))


def last_frames(plan: ClipPlan, n_frames: int) -> ClipPlan:
    """The plan's last frames, one a second."""
    start_s = max(plan.start_s or 0.0, plan.end_s - (n_frames - 1) / RECENT_FPS)
    return replace(plan, start_s=start_s, min_frames=n_frames, max_frames=n_frames, rule="question")
