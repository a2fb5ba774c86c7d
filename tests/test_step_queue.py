"""Steps from frames: every user of the loop makes the same ones, drops the same ones, and accounts for all."""

import random

import pytest
import torch

from data.video.frame_plan import FPS
from data.video.live import TimedFrame
from demo.viewing import Viewing
from evaluation.predictors.checkpoint import comment as evaluations_comment
from models.load import load_checkpoint
from models.streaming.engine import Engine, EngineOptions
from models.streaming.options import StreamOptions
from models.streaming.requests import VisionRequest
from models.streaming.session import StreamingSession, comment
from models.streaming.step_queue import StepQueue
from models.training.held_out import comment as callbacks_comment
from tests.test_cli import RecordingView
from utils.errors import UserError

MAX_LAG_S = 2.0
PICTURE = torch.zeros(3, 28, 28, dtype=torch.uint8)
PLAIN = [i / 2 for i in range(40)]  # 20 s
HOLES = [t for t in PLAIN if not 4.5 <= t < 6 and not 12 <= t < 14.5 and t != 17]
SOURCES = {"whole": PLAIN, "holes": HOLES, "odd end": PLAIN[:39], "short": PLAIN[:3], "nothing": []}
COSTS = {"fast": 0.2, "1.2 times too slow": 1.2, "4 times": 4.0}


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")


class PlayedTime:
    """A clock that moves only when somebody waits or the model works."""

    def __init__(self):
        self.second = 0.0

    def wait_until(self, second: float) -> None:
        self.second = max(self.second, second)

    def now(self) -> float:
        return self.second


class PlayedEngine(Engine):
    """An engine without a thread, whose steps take `cost_s` of played time; meanwhile frames come."""

    cost_s = 0.0

    def __init__(self, checkpoint, options):
        self.clock = PlayedTime()
        super().__init__(checkpoint, options, threaded=False, now=self.clock.now)
        self.batch.execute = self._execute_slowly
        self.coming: list[TimedFrame] = []

    def watch(self, stream, source, clock=None):
        """Play the source to its end."""
        self.stream, self.coming = stream, list(source)
        while not stream.closed:
            self._push_played()
            self.run_pending()
            if self.coming:
                self.clock.wait_until(self.coming[0].time_s + 1 / FPS)

    def _execute_slowly(self, requests):
        self.clock.second += self.cost_s * any(isinstance(request, VisionRequest) for request in requests)
        self._push_played()
        return type(self.batch).execute(self.batch, requests)

    def _push_played(self) -> None:
        while self.coming and self.coming[0].time_s + 1 / FPS <= self.clock.second:
            frame = self.coming.pop(0)
            self.stream.queue.push(frame.time_s, frame.frame, frame.time_s + 1 / FPS)
        if not self.coming:
            self.stream.end()


def source_of(times: list[float]) -> list[TimedFrame]:
    return [TimedFrame(time_s, PICTURE + number) for number, time_s in enumerate(times)]


OPTIONS = StreamOptions(max_new_tokens=1)
Span = tuple[float, float, int, int]  # of a step: start, end, frames, frames dropped before


def by_comment(checkpoint, times, cost_s, monkeypatch) -> tuple[list[Span], int, int]:
    clock, session = PlayedTime(), StreamingSession(checkpoint, OPTIONS)
    step = session.step

    def slow(*arguments):
        clock.second += cost_s
        return step(*arguments)

    session.step = slow
    queue = StepQueue(max_lag_s=MAX_LAG_S, now=clock.now)
    steps = [step.record() for step in comment(session, source_of(times), clock, queue=queue)]
    assert queue.n_waiting == 0
    return spans_of(steps), queue.n_came, queue.n_dropped


def by_engine(checkpoint, times, cost_s, monkeypatch) -> tuple[list[Span], int, int]:
    engine, records = PlayedEngine(checkpoint, EngineOptions(max_lag_s=MAX_LAG_S)), []
    engine.cost_s = cost_s
    engine.watch(engine.open(records.append, OPTIONS), source_of(times))
    assert engine.stats()["dropped"] == records[-1]["n_dropped"]
    engine.close()
    return spans_of(records), records[-1]["n_frames"], records[-1]["n_dropped"]


def by_command_line(checkpoint, times, cost_s, monkeypatch) -> tuple[list[Span], int, int]:
    monkeypatch.setattr(PlayedEngine, "cost_s", cost_s)
    monkeypatch.setattr("demo.viewing.Engine", PlayedEngine)
    view = RecordingView()
    Viewing(checkpoint, OPTIONS, view, {}).run(source_of(times), realtime=True, max_lag_s=MAX_LAG_S)
    return spans_of(view.shown), view.shown[-1]["n_frames"], view.shown[-1]["n_dropped"]


def spans_of(records: list[dict]) -> list[Span]:
    steps = [record for record in records if record.get("type") == "step"]
    return [(step["start_s"], step["end_s"], step["n_frames"], step["n_dropped"]) for step in steps]


@pytest.mark.parametrize("times", SOURCES.values(), ids=SOURCES)
@pytest.mark.parametrize("cost_s", COSTS.values(), ids=COSTS)
def test_every_user_of_the_loop_makes_and_drops_the_same_steps(checkpoint, cost_s, times, monkeypatch):
    found = [user(checkpoint, times, cost_s, monkeypatch) for user in (by_comment, by_engine, by_command_line)]
    assert found[0] == found[1] == found[2]
    spans, n_came, n_dropped = found[0]
    assert n_came == len(times) == sum(n for *_, n, _ in spans) + n_dropped
    assert n_dropped == sum(dropped for *_, dropped in spans)  # nothing is dropped behind the last step
    if times:
        assert spans[-1][1] >= times[-1] + 1 / FPS  # the newest frame is never dropped
    if cost_s < 1:
        assert n_dropped == 0
    elif len(times) > 3 and not (cost_s < 2 and times is HOLES):  # in holes, one that is hardly too slow catches up
        assert n_dropped > 0


def test_the_callback_and_evaluation_take_their_steps_from_the_same_loop():
    assert evaluations_comment is comment and callbacks_comment is comment


@pytest.mark.parametrize("seed", range(30))
def test_at_every_moment_each_frame_is_used_dropped_or_waits(seed):
    """Random arrivals with holes, taken at random moments."""
    rng, clock = random.Random(seed), PlayedTime()
    queue = StepQueue(max_lag_s=rng.choice([None, 0.5, 2.0]), whole_steps=rng.random() < 0.3, now=clock.now)
    time_s, came, steps = 0.0, [], []
    for _ in range(80):
        clock.second += rng.random()
        if rng.random() < 0.7:
            time_s += rng.choice([0.5, 0.5, 0.5, 2.0])
            came.append(time_s)
            queue.push(time_s, PICTURE)
        elif (step := queue.take()) is not None:
            steps.append(step)
        assert queue.n_came == len(came) == queue.n_used + queue.n_dropped + queue.n_waiting
    queue.end()
    while (step := queue.take()) is not None:
        steps.append(step)
    assert queue.n_waiting == 0 and queue.n_came == queue.n_used + queue.n_dropped
    assert queue.n_used == sum(step.n_frames for step in steps)
    assert all(step.frames.shape[0] % 2 == 0 and step.n_frames <= 6 for step in steps)
    assert [step.start_s for step in steps] == sorted({step.start_s for step in steps})
    assert all(len(step.frames) - step.n_frames in (0, 1) for step in steps)


def test_a_rest_that_fills_no_step_is_left_out_and_counted_as_the_published_loop_does():
    queue = StepQueue(whole_steps=True)
    for number in range(9):
        queue.push(number / 2, PICTURE)
    queue.end()
    assert [queue.take().n_frames, queue.take().n_frames, queue.take()] == [6, 2, None]
    assert (queue.n_came, queue.n_used, queue.n_dropped) == (9, 8, 1)


def test_a_closed_stream_counts_what_it_did_not_use():
    queue = StepQueue()
    for number in range(9):
        queue.push(number / 2, PICTURE)
    queue.give_up(queue.take())
    assert (queue.n_came, queue.n_used, queue.n_dropped, queue.n_waiting) == (9, 0, 9, 0)


def test_frames_of_a_step_have_one_size():
    queue = StepQueue()
    for number in range(6):
        queue.push(number / 2, torch.zeros(3, 28, 28 if number < 3 else 56, dtype=torch.uint8))
    with pytest.raises(UserError, match=r"different sizes within the step at 0\.0 s"):
        queue.take()
