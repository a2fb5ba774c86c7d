"""The streaming loop on a random model: cached equals one forward pass, questions, thresholds, limits, late frames."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from data.samples.conversation import Turn, stream_turns
from data.samples.questions import Question, questions_by_step
from data.samples.words import SILENCE, step_label, step_slices, step_window
from models.load import load_checkpoint
from models.streaming.decoding import TokenChoice, choose_tokens
from models.streaming.options import DecodingOptions, StreamOptions
from models.streaming.requests import Batch, VisionRequest
from models.streaming.session import Clock, StreamingSession, comment
from tests.pictures import noise
from tests.recorder import record, spread
from tests.reference import Reference
from utils.errors import UserError
from utils.options import build_options

N_TURNS = 16


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def reference(tiny_checkpoint):
    return Reference(tiny_checkpoint)


@pytest.fixture(scope="module")
def frames():
    return noise(6 + 2 * (N_TURNS - 1), 1)


def timed(frames):
    return [SimpleNamespace(time_s=i / 2, frame=frame) for i, frame in enumerate(frames)]


def encode(model, frames):
    return Batch(model).execute([VisionRequest(frames)])[0]


def clips_of(frames) -> list[torch.Tensor]:
    return [frames[window] for window in step_slices(len(frames))]


@pytest.mark.parametrize(
    "mode, compat", [("mrope", None), ("sequential", None), ("livecc", None), ("sequential", "livecc")]
)
def test_streaming_equals_one_forward_pass(checkpoint, reference, frames, mode, compat):
    """Over 16 turns with the cache the largest difference to the library's logits, in float32, is below 1e-4.

    The library reads the whole conversation at once with a tower and positions of its own. `compat` brings positions
    with it, whatever the checkpoint's are.
    """
    options = StreamOptions(max_new_tokens=5, compat=compat)
    session, recorder = record(replace(checkpoint, position_mode=mode), options)
    steps = list(comment(session, timed(frames)))
    assert all(len(step.token_ids) == 5 for step in steps) and len(steps) == N_TURNS
    whole = reference.logits(recorder.fed, clips_of(frames), compat or mode)
    assert max(float((whole[at] - logits).abs().max()) for at, logits in recorder.rows) < 1e-4
    assert spread(torch.stack([logits for _, logits in recorder.rows])) > 1e-2


def test_the_context_is_the_training_format(checkpoint, frames):
    """What the loop feeds is token by token what a sample of the same turns trains on."""
    session, recorder = record(checkpoint, StreamOptions(max_new_tokens=4, query="Say it."))
    steps = list(comment(session, timed(frames[:10])))
    turns = []
    for i in range(len(steps)):
        block, _ = encode(checkpoint.model, frames[step_slices(10)[i]])
        query = ["Say it."] if i == 0 else []
        turns.append(Turn("user", [step_label(*step_window(i)), block, *query]))
        turns.append(Turn("assistant", ["\x00"]))
    chat = checkpoint.chat
    expected = chat.system_ids()
    for i, step in enumerate(steps):
        said = [t for t in step.token_ids if t not in checkpoint.eos_ids]
        expected += [*chat.turn_ids(turns[2 * i]), *chat.header_ids("assistant"), *said, *chat.closing_ids()]
    assert recorder.fed + session.pending == expected


def test_questions_do_not_disturb_the_commentary(checkpoint, frames):
    # So high a penalty would show what an answer says in what the commentary avoids.
    options = StreamOptions(max_new_tokens=4, max_answer_tokens=6, repetition_penalty=1.5)
    plain = [step.token_ids for step in comment(StreamingSession(checkpoint, options), timed(frames))]
    session, asked = StreamingSession(checkpoint, options), []
    answers = []
    for i, step in enumerate(comment(session, timed(frames))):
        asked.append(step.token_ids)
        if i in (2, 5):
            answers.append(session.ask("What is the score?"))
        for answer in answers:  # answered piece by piece while the commentary goes on
            next(answer, None)
    assert asked == plain


def conversation(session, recorder, question: str) -> list[int]:
    """The ids of all that a session was fed, of what it has still to be fed, and of a question."""
    chat = session.chat
    return [*recorder.fed, *session.pending, *chat.turn_ids(Turn("user", [question])), *chat.header_ids("assistant")]


@pytest.mark.parametrize("remember", [False, True])
def test_an_answer_comes_from_the_cache(checkpoint, reference, frames, remember):
    """A question in mid-stream is answered as the library answers who reads the whole conversation at once."""
    options = StreamOptions(max_new_tokens=3, max_answer_tokens=6, remember_questions=remember)
    session, recorder = record(checkpoint, options)
    steps = list(comment(session, timed(frames[:12])))
    clips, answers = clips_of(frames[:12]), []
    for question in ("Who?", "What is the score?"):
        ids = conversation(session, recorder, question)
        rules = {"n": 6, "eos_ids": checkpoint.eos_ids, "repetition_penalty": options.repetition_penalty}
        expected = reference.generate(ids, clips, **rules)
        n_before = session.state.n_tokens
        answers.append("".join(session.ask(question)))
        assert answers[-1] == checkpoint.chat.decode(expected).rstrip("\ufffd") and len(expected) == 6
        assert (session.state.n_tokens > n_before) == remember
        if not remember:
            del recorder.fed[len(ids) - len(conversation(session, recorder, question)) :]
    assert answers[0] != answers[1] and len(steps) == 4


def test_what_is_remembered_is_spoken_from(checkpoint, reference, frames):
    """The step after a remembered answer reads on behind it."""
    session, recorder = record(checkpoint, StreamOptions(max_answer_tokens=4, remember_questions=True))
    session.step(frames[:6], 0, 3)
    list(session.ask("Who?"))
    session.step(frames[6:8], 3, 4)
    whole = reference.logits(recorder.fed, [frames[:6], frames[6:8]])
    assert max(float((whole[at] - logits).abs().max()) for at, logits in recorder.rows) < 1e-4


def test_questions_in_mid_stream_are_trained_on_as_they_are_remembered(checkpoint, frames):
    """What a session feeds that remembers its questions is token by token what a sample with qa_stream trains on."""
    chat, question = checkpoint.chat, Question(4.2, "Who is it?", "Red wins.")
    said = iter([chat.silence] * 2 + [*chat.text_ids(question.answer), chat.im_end] + [chat.silence])
    options = StreamOptions(remember_questions=True, query="Say it.")
    session, recorder = record(checkpoint, options, said.__next__)
    asked, _ = questions_by_step([question], 0.0, 3)
    for i, window in enumerate(step_slices(10)):
        session.step(frames[window], *step_window(i))
        for one in asked.get(i, ()):
            assert "".join(session.ask(one.question)) == one.answer
    blocks = [encode(checkpoint.model, clip)[0] for clip in clips_of(frames[:10])]
    turns = stream_turns(blocks, [SILENCE] * 3, "Say it.", asked)
    assert chat.encode(turns).input_ids == recorder.fed + session.pending


def test_a_turn_ends_at_silence_without_a_second_pass(checkpoint, frames):
    session, recorder = record(checkpoint, StreamOptions(), say=lambda: checkpoint.chat.silence)
    step = session.step(frames[:6], 0, 3)
    assert (step.token_ids, step.text) == ([checkpoint.chat.silence], "")
    assert len(recorder.rows) == 1
    assert session.pending == [checkpoint.chat.silence, *checkpoint.chat.closing_ids()]


@pytest.mark.parametrize("compat", [None, "livecc"])
def test_a_cut_off_turn(checkpoint, frames, compat):
    """At the token limit the last token goes with the next turn; the published loop loses it."""
    session, _ = record(checkpoint, StreamOptions(max_new_tokens=3, compat=compat), iter(range(20, 26)).__next__)
    session.step(frames[:6], 0, 3)
    kept = [] if compat else [22]
    assert session.pending == [*kept, *checkpoint.chat.closing_ids()]


def test_compat_appends_a_question_to_the_next_step(checkpoint, frames):
    session, recorder = record(checkpoint, StreamOptions(max_new_tokens=2, compat="livecc"))
    session.step(frames[:6], 0, 3)
    assert list(session.ask("Who?")) == []
    at = len(recorder.fed)
    session.step(frames[6:8], 3, 4)
    question = checkpoint.chat.text_ids("Who?")
    fed = recorder.fed[at:]
    assert any(fed[i : i + len(question)] == question for i in range(len(fed)))


def choose(logits, seen, n=1, least_silence=None, generator=None, **options) -> list[int]:
    choice = TokenChoice(DecodingOptions(**options), 3, generator, least_silence)
    return choose_tokens(logits.expand(n, -1), [seen] * n, [choice] * n)


def test_penalty_lowers_what_was_seen():
    seen = torch.tensor([1, 0, 2, 0])
    logits = torch.tensor([2.0, 1.9, -1.0, -1.05])
    assert choose(logits, seen, repetition_penalty=1.0) == [0]
    assert choose(logits, seen, repetition_penalty=1.1) == [1]


def test_silence_is_forbidden_up_to_its_threshold():
    seen = torch.zeros(4)
    logits = torch.tensor([0.0, 0.0, 0.4, 1.0]).log_softmax(-1)  # P(silence) = 0.43
    assert choose(logits, seen, repetition_penalty=1.0, least_silence=0.4) == [3]
    assert choose(logits, seen, repetition_penalty=1.0, least_silence=0.5) == [2]
    assert choose(logits, seen, repetition_penalty=1.0) == [3]


def test_the_threshold_rises_with_the_words_of_a_step(checkpoint):
    options = StreamOptions(silence_threshold_base=0.2, silence_threshold_step=0.1)
    session = StreamingSession(checkpoint, options)
    assert session._choice(0, spoken=True).least_silence == 0.2
    assert session._choice(3, spoken=True).least_silence == pytest.approx(0.5)
    assert session._choice(3, spoken=False).least_silence is None


def test_rows_of_a_batch_keep_their_own_rules():
    logits, seen = torch.tensor([[2.0, 1.9], [2.0, 1.9]]), torch.tensor([1, 0])
    rules = [TokenChoice(DecodingOptions(repetition_penalty=p), 0) for p in (1.0, 1.1)]
    assert choose_tokens(logits, [seen, seen], rules) == [0, 1]


def test_sampling_is_seeded_and_follows_the_odds():
    seen = torch.zeros(3)
    logits = torch.tensor([0.7, 0.2, 0.1]).log()

    def draws(seed=0, **extra):
        generator = torch.Generator().manual_seed(seed)
        return choose(logits, seen, 300, generator=generator, do_sample=True, repetition_penalty=1.0, **extra)

    assert draws() == draws()
    assert draws() != draws(seed=1)
    assert 0.6 < draws().count(0) / 300 < 0.8
    assert set(draws(top_k=2)) == {0, 1}
    assert set(draws(top_p=0.5)) == {0}
    assert draws(temperature=0.05).count(0) == 300


@pytest.mark.parametrize("graph", [False, True], ids=["layers", "graph"])
def test_pads_are_never_spoken(checkpoint, frames, graph, monkeypatch):
    """A pad stands for frames that are not there, so it is not said however likely the model finds it."""
    session, recorder = record(checkpoint, StreamOptions(max_new_tokens=5, max_answer_tokens=5), graph=graph)
    pads = [checkpoint.chat.video_pad, checkpoint.chat.image_pad]
    weight = checkpoint.model.lm_head.weight
    monkeypatch.setattr(weight, "data", weight.data.clone())
    weight.data[pads] = 50 * weight.data.roll(1, dims=0)[pads]
    said = [token for step in comment(session, timed(frames[:12])) for token in step.token_ids]
    answer = "".join(session.ask("Who?"))
    assert not set(pads) & set(said) and len(set(said)) > 5 and "pad" not in answer
    assert any(int(logits.argmax()) in pads for _, logits in recorder.rows) and recorder.n_in_graph >= 16 * graph


def test_short_and_odd_sources(checkpoint, frames):
    options = StreamOptions(max_new_tokens=1)
    windows = [(s.start_s, s.end_s) for s in comment(StreamingSession(checkpoint, options), timed(frames[:9]))]
    assert windows == [(0, 3), (3, 4), (4, 5)]
    assert len(list(comment(StreamingSession(checkpoint, options), timed(frames[:3])))) == 1
    assert list(comment(StreamingSession(checkpoint, options), [])) == []


def test_a_clock_waits_until_a_second_has_played(monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    monkeypatch.setattr("time.monotonic", lambda: 107.5)
    clock = Clock(started_s=100.0)
    clock.wait_until(10.0)
    clock.wait_until(3.0)
    assert clock.now() == 7.5 and slept == [2.5, 0.0]


class SlowClock(Clock):
    """A clock on which every step takes 2.5 s."""

    def __init__(self):
        super().__init__()
        self.second = 0.0

    def wait_until(self, second):
        self.second = max(self.second, second)

    def now(self):
        return self.second


def test_late_frames_are_dropped_whole_and_reported(checkpoint, frames, monkeypatch):
    clock = SlowClock()
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=1))
    step_once = session.step

    def slow(*args):
        clock.second += 2.5
        return step_once(*args)

    session.step = slow
    steps = list(comment(session, timed(frames), clock, max_lag_s=2.0))
    assert sum(s.n_dropped for s in steps) > 0
    assert all(s.n_dropped % 2 == 0 for s in steps)
    assert all(0 < s.lag_s <= 2.5 + max(2.0, 2.5) for s in steps)  # the newest step waits for the one before it
    ends = [s.end_s for s in steps]
    assert ends == sorted(ends) and len(set(ends)) == len(ends)


def test_samplers_have_seeds_of_their_own(checkpoint, frames):
    """Two sessions of one seed say the same side by side, and an answer takes no odds from the commentary."""
    options = StreamOptions(max_new_tokens=4, max_answer_tokens=4, do_sample=True, temperature=2.0, seed=3)
    first, second = (comment(StreamingSession(checkpoint, options), timed(frames[:12])) for _ in range(2))
    both = [(next(first).token_ids, next(second).token_ids) for _ in range(4)]
    assert all(ours == theirs for ours, theirs in both)
    other = comment(StreamingSession(checkpoint, replace(options, seed=4)), timed(frames[:12]))
    assert [step.token_ids for step in other] != [ours for ours, _ in both]
    session, asked = StreamingSession(checkpoint, options), []
    for step in comment(session, timed(frames[:12])):
        asked.append(step.token_ids)
        list(session.ask("Who?"))
    assert asked == [ours for ours, _ in both]


def test_two_sessions_do_not_disturb_each_other(checkpoint, frames):
    options = StreamOptions(max_new_tokens=4)
    alone = [s.token_ids for s in comment(StreamingSession(checkpoint, options), timed(frames[:12]))]
    first = comment(StreamingSession(checkpoint, options), timed(frames[:12]))
    second = comment(StreamingSession(checkpoint, options), timed(frames.flip(0)[:12]))
    assert [[next(first).token_ids, next(second).token_ids][0] for _ in range(4)] == alone


def test_watching_a_whole_clip(checkpoint, reference, frames):
    """The clip comes first, then the question, and the answer is the library's."""
    answers = []
    for clip in (frames[:6], frames[6:12]):
        session, recorder = record(checkpoint, StreamOptions(max_answer_tokens=6, repetition_penalty=1.0))
        answers.append("".join(session.watch(clip, "Who won?")))
        block, chat = encode(checkpoint.model, clip)[0], checkpoint.chat
        turn = chat.turn_ids(Turn("user", [block, "Who won?"]))
        ids = [*chat.system_ids(), *turn, *chat.header_ids("assistant")]
        said = reference.generate(ids, [clip], 6, checkpoint.eos_ids)
        assert recorder.fed == [*ids, *said[:-1]] and answers[-1] == chat.decode(said).rstrip("\ufffd")
    assert answers[0] != answers[1]


def test_no_step_spans_an_interruption(checkpoint, frames):
    """A live source leaves out what it did not get; the step before the hole ends early, the next begins behind it."""
    times = [0, 0.5, 1, 1.5, 2, 2.5, 3, 10, 10.5, 11]
    source = [SimpleNamespace(time_s=t, frame=f) for t, f in zip(times, frames, strict=False)]
    spans = [
        (s.start_s, s.end_s) for s in comment(StreamingSession(checkpoint, StreamOptions(max_new_tokens=1)), source)
    ]
    assert spans == [(0, 3), (3, 4), (10, 11), (11, 12)]
    early = [SimpleNamespace(time_s=t, frame=f) for t, f in zip([0, 0.5, 1, 7, 7.5], frames, strict=False)]
    spans = [
        (s.start_s, s.end_s) for s in comment(StreamingSession(checkpoint, StreamOptions(max_new_tokens=1)), early)
    ]
    assert spans == [(0, 2), (7, 8)]


def test_a_question_that_does_not_fit_in_memory_is_refused_with_numbers(checkpoint, monkeypatch):
    session = StreamingSession(checkpoint, StreamOptions())
    long = "Who leads? " * 2000
    monkeypatch.setattr("models.streaming.memory.free_bytes", lambda device: 10**8)
    with pytest.raises(UserError, match=r"tokens to read at once, after 0: .* GB, and 0\.1 GB are free on cpu"):
        list(session.ask(long))
    assert not session.state.cache.n_live


def test_the_query_flag_is_refused_without_being_repeated():
    with pytest.raises(UserError, match="at most 2000 characters") as refused:
        build_options(StreamOptions, {"query": "goal " * 10_000})
    assert len(str(refused.value)) < 200
