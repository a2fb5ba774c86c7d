"""Many streams on one model: the same words as alone, faults that stay where they are, late frames, saving."""

import threading
import time
from dataclasses import replace
from queue import Queue

import pytest
import torch

from data.video.live import TimedFrame
from models.load import load_checkpoint
from models.streaming.decode_graphs import DecodeGraphs
from models.streaming.decoding import NO_TOKEN, TokenChoice, choose_tokens
from models.streaming.engine import Engine, EngineFull, EngineOptions
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.requests import VisionRequest
from models.streaming.session import StreamingSession, comment, timed_frames
from models.streaming.slot_pool import SlotPool
from models.streaming.stream import Stream
from tests.pictures import noise
from tests.waiting import PATIENCE_S
from utils.errors import UserError

OPTIONS = StreamOptions(max_new_tokens=5, max_answer_tokens=6)
WINDOW = StreamOptions(max_new_tokens=5, retention=RetentionOptions("window", 64, 60, 4.0))


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")


@pytest.fixture
def engine(checkpoint):
    engine = Engine(checkpoint)
    yield engine
    engine.close()


class Ear:
    """Listens to a stream."""

    def __init__(self):
        self.records, self.ended = [], threading.Event()

    def __call__(self, record: dict) -> None:
        self.records.append(record)
        if record["type"] == "end":
            self.ended.set()

    def wait(self) -> list[dict]:
        assert self.ended.wait(PATIENCE_S)
        return self.records

    def of(self, kind: str) -> list[dict]:
        return [record for record in self.records if record["type"] == kind]

    def said(self) -> list[tuple[float, str]]:
        return [(step["end_s"], step["text"]) for step in self.of("step")]


def alone(checkpoint, frames, options=OPTIONS) -> list[tuple[float, str]]:
    session = StreamingSession(checkpoint, options)
    return [(step.end_s, step.text) for step in comment(session, timed_frames(frames))]


def start(engine, frames, options=OPTIONS) -> tuple[Stream, Ear]:
    ear = Ear()
    stream = engine.open(ear, options, realtime=False)
    engine.watch(stream, timed_frames(frames))
    return stream, ear


def test_steps_end_at_a_hole_as_they_do_alone(checkpoint, engine):
    film = noise(13, 5)
    times = [0, 0.5, 1, 1.5, 2, 2.5, 3, 10, 10.5, 11, 11.5, 12, 12.5]
    source = [TimedFrame(time_s, frame) for time_s, frame in zip(times, film, strict=True)]
    ear = Ear()
    engine.watch(engine.open(ear, OPTIONS, realtime=False), source)
    ear.wait()
    steps = comment(StreamingSession(checkpoint, OPTIONS), source)
    assert [(s["start_s"], s["end_s"], s["text"]) for s in ear.of("step")] == [
        (s.start_s, s.end_s, s.text) for s in steps
    ]


def use_pool(engine, n_rows: int = 8, n_slots: int = 512) -> list[int]:
    """Decode single tokens as a GPU does, uncaptured; returns a list that gains the streams of each such batch."""
    batch, n_together = engine.batch, []
    batch.pool = SlotPool(batch.model, n_rows, n_slots)
    decode = DecodeGraphs(batch.model, batch.pool)

    def graphs(ids, positions, runs):
        n_together.append(len(runs))
        return decode(ids, positions, runs)

    batch.graphs = graphs
    return n_together


@pytest.mark.parametrize("pooled", [False, True], ids=["own storage", "pool"])
@pytest.mark.parametrize("options", [OPTIONS, WINDOW], ids=["full", "window"])
def test_together_they_say_what_each_says_alone(checkpoint, engine, options, pooled):
    films = [noise(16 + 2 * seed, seed) for seed in range(4)] + [noise(17, 9), noise(18, 8, size=(84, 56))]
    n_together, execute, n_asked = use_pool(engine) if pooled else [], engine.batch.execute, []
    engine.batch.execute = lambda requests: n_asked.append(len(requests)) or execute(requests)
    started = [start(engine, film, options) for film in films]
    for film, (_, ear) in zip(films, started, strict=True):
        ear.wait()
        assert ear.said() == alone(checkpoint, film, options)
        assert ear.records[-1] == {**ear.records[-1], "reason": "end of source", "n_dropped": 0}
    first_steps = [tuple(ear.said()[:4]) for _, ear in started]
    assert len(set(first_steps)) == len(films) and max(n_asked) > 1
    assert engine.stats()["streams"] == 0
    if pooled:
        assert max(n_together) > 1 and engine.batch.pool.free == list(range(8))[::-1]


def test_questions_are_answered_beside_the_commentary(checkpoint, engine):
    film = noise(24, 1)
    stream, ear = start(engine, film)
    numbers = [stream.ask("Who?"), stream.ask("What is the score?")]
    ear.wait()
    assert ear.said() == alone(checkpoint, film)
    answers = ear.of("answer")
    assert [answer["id"] for answer in answers] == numbers
    for answer in answers:
        pieces = "".join(p["text"] for p in ear.of("piece") if p["id"] == answer["id"])
        assert pieces.strip() == answer["text"]
        assert answer["text"] in answers_after_any_step(checkpoint, film, answer["question"])
    assert answers[0]["text"] != answers[1]["text"]


def answers_after_any_step(checkpoint, film, question: str) -> list[str]:
    """Both questions wait for the first step, and further ones may have been taken before an answer began."""
    session = StreamingSession(checkpoint, OPTIONS)
    return ["".join(session.ask(question)).strip() for _ in comment(session, timed_frames(film))]


def broken_source():
    yield from timed_frames(noise(8, 2))
    raise UserError("camera: unplugged")


def test_a_long_answer_holds_no_steps_up(checkpoint):
    """One stream at a time in a batch: the step that came before the next token of the answer goes first."""
    engine = Engine(checkpoint, EngineOptions(max_batch_streams=1))
    talker, other = Ear(), Ear()
    options = StreamOptions(max_new_tokens=5, max_answer_tokens=400)
    answering = engine.open(talker, options, realtime=False)
    for number, frame in enumerate(noise(6, 1)):
        answering.push(number / 2, frame)
    answering.ask("What is it?")
    while not talker.of("piece"):
        time.sleep(0.001)
    engine.watch(engine.open(other, OPTIONS, realtime=False), timed_frames(noise(12, 2)))
    other.wait()
    assert len(other.said()) == 4 and not talker.of("answer")
    engine.close()


def test_a_broken_source_ends_its_own_stream_only(checkpoint, engine):
    film = noise(20, 1)
    _, ear = start(engine, film)
    bad = Ear()
    engine.watch(engine.open(bad, OPTIONS, realtime=False), broken_source())
    assert [record["type"] for record in bad.wait()][-2:] == ["error", "end"]
    assert bad.of("error")[0]["message"] == "camera: unplugged" and bad.records[-1]["reason"] == "failed"
    ear.wait()
    assert ear.said() == alone(checkpoint, film)


def test_half_the_streams_are_closed_in_mid_step(checkpoint, engine):
    film = noise(30, 1)
    started = [start(engine, film) for _ in range(6)]
    for stream, _ in started[::2]:
        stream.close()
    for number, (stream, ear) in enumerate(started):
        ear.wait()
        if number % 2:
            assert ear.said() == alone(checkpoint, film)
        else:
            with pytest.raises(UserError, match="has ended"):
                stream.push(100.0, film[0])
            with pytest.raises(UserError, match="has ended"):
                stream.ask("Who?")


@pytest.mark.parametrize(
    "frame",
    [torch.zeros(3, 56, 84), torch.zeros(3, 57, 84, dtype=torch.uint8), torch.zeros(56, 84, dtype=torch.uint8)],
    ids=["float", "odd size", "grey"],
)
def test_frames_that_do_not_fit_are_refused_where_they_are_given(engine, frame):
    stream = engine.open(Ear(), OPTIONS)
    with pytest.raises(UserError, match="needs uint8"):
        stream.push(0.0, frame)
    stream.push(0.0, noise(1, 1)[0])
    with pytest.raises(UserError, match="times must grow"):
        stream.push(0.0, noise(1, 1)[0])


@pytest.mark.parametrize(
    "limits", [EngineOptions(max_batch_streams=2), EngineOptions(max_batch_tokens=40)], ids=["streams", "tokens"]
)
def test_a_batch_is_no_larger_than_its_limits(checkpoint, limits):
    """What does not fit waits for the next one, and is said all the same."""
    engine = Engine(checkpoint, limits)
    execute, batches, films = engine.batch.execute, [], [noise(12, seed) for seed in range(4)]
    engine.batch.execute = lambda requests: batches.append(requests) or execute(requests)
    started = [start(engine, film) for film in films]
    for film, (_, ear) in zip(films, started, strict=True):
        ear.wait()
        assert ear.said() == alone(checkpoint, film)
    engine.close()
    assert max(map(len, batches)) <= (limits.max_batch_streams or 40)
    for batch in batches:  # a merged patch is 28 x 28 of two frames: 6 of them here a pair
        n_tokens = sum(3 * len(r.frames) if isinstance(r, VisionRequest) else len(r.ids) for r in batch)
        assert n_tokens <= limits.max_batch_tokens or len(batch) == 1
    assert max(map(len, batches)) > 1


def test_labels_count_from_a_streams_first_frame(checkpoint, engine):
    """A stream that begins at second 50 is told 0.0 to 3.0 s, as a clip in training is."""
    film = noise(12, 1)
    ear = Ear()
    engine.watch(engine.open(ear, OPTIONS, realtime=False), timed_frames(film, 50.0))
    ear.wait()
    assert ear.said() == [(end_s + 50.0, text) for end_s, text in alone(checkpoint, film)]


def test_sizes_that_change_within_a_step_end_the_stream(engine):
    ear = Ear()
    stream = engine.open(ear, OPTIONS)
    for i in range(6):
        stream.push(i / 2, noise(1, i, size=(56, 84 if i < 3 else 56))[0])
    ear.wait()
    assert "different sizes" in ear.of("error")[0]["message"]


def test_late_frames_are_dropped_whole_while_newer_ones_wait(checkpoint):
    engine = Engine(checkpoint, EngineOptions(max_lag_s=0.05))
    gate, ear = threading.Event(), Ear()
    execute = engine.batch.execute
    engine.batch.execute = lambda requests: gate.wait(PATIENCE_S) and execute(requests)
    stream = engine.open(ear, OPTIONS)
    for i in range(6):
        stream.push(i / 2, noise(1, i)[0])
    while stream.queue.n_waiting:
        time.sleep(0.01)
    for i in range(6, 16):
        stream.push(i / 2, noise(1, i)[0])
    time.sleep(0.2)
    gate.set()
    stream.end()
    ear.wait()
    steps = ear.of("step")
    assert [step["n_dropped"] for step in steps] == [0, 8]
    assert steps[1]["start_s"] == 7.0
    assert ear.records[-1]["n_dropped"] == engine.stats()["dropped"] == 8
    engine.close()


def test_a_stream_too_many_is_refused_with_its_reason(checkpoint):
    engine = Engine(checkpoint, EngineOptions(max_sessions=2))
    streams = [engine.open(Ear(), OPTIONS) for _ in range(2)]
    with pytest.raises(EngineFull, match="2 streams are open, the limit"):
        engine.open(Ear(), OPTIONS)
    streams[0].close()
    while engine.stats()["streams"] == 2:
        time.sleep(0.01)
    engine.open(Ear(), OPTIONS)
    engine.close()


def test_admission_reckons_with_what_a_step_costs(checkpoint):
    engine = Engine(checkpoint)
    use_pool(engine, n_rows=2)
    assert 0 < engine.measure((56, 84)) < PATIENCE_S
    assert engine.batch.pool.free == [1, 0]  # what measured keeps no row
    engine.step_cost_s = 0.4
    engine.open(Ear(), OPTIONS)
    engine.open(Ear(), OPTIONS)
    with pytest.raises(EngineFull, match="120%, over 90%"):
        engine.open(Ear(), OPTIONS)
    engine.close()


def test_saved_streams_continue_in_another_engine(checkpoint, tmp_path):
    film, first, second = noise(24, 3), Engine(checkpoint), Engine(checkpoint)
    ear, arrived = Ear(), Queue()
    stream = first.open(lambda record: (ear(record), arrived.put(record)), OPTIONS, realtime=False)
    for timed in timed_frames(film[:14]):
        stream.push(timed.time_s, timed.frame)
    while len(ear.of("step")) < 5:
        arrived.get(timeout=PATIENCE_S)
    files = first.close(save_to=tmp_path)
    assert ear.wait()[-1]["reason"] == "saved" and len(files) == 1
    later = Ear()
    stream = second.open(later, saved=files[0], realtime=False)
    second.watch(stream, (TimedFrame(7 + t.time_s, t.frame) for t in timed_frames(film[14:])))
    later.wait()
    assert ear.said() + later.said() == alone(checkpoint, film)
    second.close()


def test_a_stream_is_saved_between_two_steps(checkpoint, engine, tmp_path):
    film = noise(30, 4)
    stream, ear = start(engine, film)
    path = stream.save(tmp_path / "s.safetensors")
    assert path.stat().st_size > 1000
    with pytest.raises(UserError, match="another path"):
        stream.save(tmp_path / "none" / "s.safetensors")
    ear.wait()
    assert ear.said() == alone(checkpoint, film)


def test_ten_thousand_openings_leave_nothing_behind(engine):
    for _ in range(10_000 // 20):
        streams = [engine.open(Ear(), OPTIONS) for _ in range(20)]
        for stream in streams:
            stream.close()
        deadline = time.monotonic() + PATIENCE_S
        while engine.stats()["streams"]:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert engine.stats()["opened"] == 10_000 and not engine.jobs and not engine.streams


def test_a_failing_batch_is_the_end_of_its_streams_not_of_the_engine(checkpoint, engine):
    execute, ear = engine.batch.execute, Ear()
    engine.batch.execute = lambda requests: 1 / 0
    engine.watch(engine.open(ear, OPTIONS, realtime=False), timed_frames(noise(8, 1)))
    ear.wait()
    assert "division" in ear.of("error")[0]["message"]
    engine.batch.execute = execute
    film = noise(12, 1)
    _, other = start(engine, film)
    other.wait()
    assert other.said() == alone(checkpoint, film)


def test_a_question_without_a_frame_does_not_keep_a_stream_open(engine):
    ear = Ear()
    stream = engine.open(ear, OPTIONS)
    stream.ask("Who?")
    stream.end()
    assert ear.wait()[-1]["reason"] == "end of source"


def test_what_cannot_be_saved_is_said(checkpoint, tmp_path):
    engine, ear = Engine(checkpoint), Ear()
    engine.open(ear, OPTIONS)
    assert engine.close(save_to=tmp_path / "none") == []
    assert "another path" in ear.of("error")[0]["message"] and ear.records[-1]["reason"] == "engine closed"


def with_a_broken_token(folder, text: str):
    """A checkpoint whose embedding of the first token of `text` is NaN, and nothing else."""
    checkpoint = load_checkpoint(folder, device="cpu", dtype="float32")
    model = checkpoint.model
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    with torch.no_grad():
        model.get_input_embeddings().weight[checkpoint.chat.text_ids(text)[0]] = torch.nan
    return checkpoint


@pytest.mark.parametrize("greedy", [True, False])
def test_logits_that_are_not_finite_end_their_stream_and_no_other(tiny_checkpoint, greedy):
    checkpoint = with_a_broken_token(tiny_checkpoint, " tennis")
    film = noise(12, 5)
    options = replace(OPTIONS, query="What happens?", do_sample=not greedy, seed=3)
    expected = alone(checkpoint, film, options)
    engine = Engine(checkpoint)
    try:
        broken, fine = Ear(), Ear()
        streams = [
            engine.open(broken, replace(options, query="Who plays tennis?"), realtime=False),
            engine.open(fine, options, realtime=False),
        ]
        for stream in streams:
            engine.watch(stream, timed_frames(film))
        assert "logits are not finite" in next(r["message"] for r in broken.wait() if r["type"] == "error")
        assert broken.records[-1]["reason"] == "failed" and not broken.of("step")
        fine.wait()
        assert fine.said() == expected and not fine.of("error")
    finally:
        engine.close()
    with pytest.raises(UserError, match="logits are not finite"):
        alone(checkpoint, film, replace(options, query="Who plays tennis?"))
    with pytest.raises(UserError, match="logits are not finite"):
        session = StreamingSession(checkpoint, options)
        session.step(film[:6], 0, 3)
        list(session.ask("Who plays tennis?"))


@pytest.mark.parametrize("temperature", [1e-30, 1e-3, 1.0, 1e6])
def test_no_temperature_leaves_the_range_of_floats(temperature):
    options = StreamOptions(do_sample=True, temperature=temperature)
    logits = torch.linspace(-50, 50, 11)[None].expand(2, -1)
    counts = [torch.zeros(11, dtype=torch.int)] * 2
    choice = TokenChoice(options, silence_id=0, generator=torch.Generator().manual_seed(0))
    chosen = choose_tokens(logits, counts, [choice, choice])
    assert all(0 <= token <= 10 for token in chosen) and (temperature > 1 or chosen == [10, 10])


def test_choose_tokens_marks_rows_without_finite_logits():
    logits = torch.zeros(4, 6)
    logits[1, 2], logits[2, 2], logits[3] = torch.nan, torch.inf, -torch.inf
    counts = [torch.zeros(6, dtype=torch.int)] * 4
    choices = [TokenChoice(StreamOptions(do_sample=row % 2 == 1), silence_id=0) for row in range(4)]
    assert choose_tokens(logits, counts, choices) == [0, NO_TOKEN, NO_TOKEN, NO_TOKEN]


@pytest.mark.parametrize("end", ["source", "closed"])
def test_an_accepted_question_always_gets_a_record(checkpoint, engine, end):
    ear = Ear()
    stream = engine.open(ear, OPTIONS, realtime=False)
    numbers = [stream.ask("Who leads?"), stream.ask("Why?")]
    stream.end() if end == "source" else stream.close()
    ear.wait()
    answers = ear.of("answer")
    assert [answer["id"] for answer in answers] == numbers and ear.records[-1]["type"] == "end"
    assert all(answer["text"] == "" and "nothing was seen" in answer["unanswered"] for answer in answers)


def test_an_answer_that_is_cut_off_gets_a_record(checkpoint):
    engine, ear = Engine(checkpoint, threaded=False), Ear()
    stream = engine.open(ear, OPTIONS, realtime=False)
    for timed in timed_frames(noise(7, 5)):
        stream.push(timed.time_s, timed.frame)
    engine.run_pending()
    number = stream.ask("Who leads?")
    stream.close()
    engine.run_pending()
    assert [(answer["id"], answer["unanswered"]) for answer in ear.of("answer")] == [(number, "the stream ended first")]
