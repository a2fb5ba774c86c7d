"""The streaming loop on a random model: cached equals one forward pass, questions, thresholds, limits, late frames."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from data.conversation import Turn
from data.words import step_label, step_slices, step_window
from models.decoding import Choice, choose_tokens
from models.load import load_checkpoint
from models.options import DecodingOptions, StreamOptions
from models.positions import position_ids
from models.requests import Batch, Encode
from models.streaming import Clock, StreamingSession, comment

N_TURNS = 16


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def frames():
    n = 6 + 2 * (N_TURNS - 1)
    return torch.randint(0, 256, (n, 3, 56, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def timed(frames):
    return [SimpleNamespace(time_s=i / 2, frame=frame) for i, frame in enumerate(frames)]


def encode(model, frames):
    return Batch(model).answer([Encode(frames)])[0]


class Recorder(Batch):
    """A batch that keeps what was fed to one session and the logits it chose from. `say` replaces the choice."""

    def __init__(self, session, say=None):
        super().__init__(session.checkpoint.model)
        self.fed, self.rows, self.say = [], [], say
        session.batch = self

    def logits(self, ids, features, positions, runs):
        logits = super().logits(ids, features, positions, runs)
        self.fed += ids.tolist()
        self.rows.append((len(self.fed) - 1, logits[0].clone()))
        return logits

    def answer(self, requests):
        replies = super().answer(requests)
        return [self.say() if self.say and isinstance(reply, int) else reply for reply in replies]


@pytest.mark.parametrize("mode", ["mrope", "sequential", "livecc"])
def test_streaming_equals_one_forward_pass(checkpoint, frames, mode):
    """The largest logit difference over 16 turns with the cache, in float32, is below 1e-4."""
    session = StreamingSession(replace(checkpoint, position_mode=mode), StreamOptions(max_new_tokens=5))
    recorder = Recorder(session)
    for step in comment(session, timed(frames)):
        assert len(step.token_ids) <= 5
    model, blocks, features = checkpoint.model, [], []
    for window in step_slices(len(frames)):
        block, feature = encode(model, frames[window])
        blocks.append(block)
        features.append(feature)
    ids = torch.tensor(recorder.fed)
    pads = {"image": model.config.image_token_id, "video": model.config.video_token_id}
    positions = position_ids(ids, blocks, mode, pads)
    with torch.inference_mode():
        embeds = model.embed(ids[None], torch.cat(features))
        whole = model.lm_head(model.hidden_states(embeds, positions[:, None]))[0]
    assert len(recorder.rows) >= N_TURNS
    assert max(float((whole[at] - logits).abs().max()) for at, logits in recorder.rows) < 1e-4


def test_the_context_is_the_training_format(checkpoint, frames):
    """What the loop feeds is token by token what a sample of the same turns trains on."""
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=4, query="Say it."))
    recorder = Recorder(session)
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
    options = StreamOptions(max_new_tokens=4, max_answer_tokens=6)
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


def test_an_answer_comes_from_the_cache(checkpoint, frames):
    """A question in mid-stream is answered as if the whole conversation had been read at once."""
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=3, max_answer_tokens=5))
    steps = comment(session, timed(frames))
    for _ in range(4):
        next(steps)
    assert "".join(session.fork().ask("Who?")) == "".join(session.ask("Who?"))
    before = session.context.n_tokens
    list(session.ask("Who?"))
    assert session.context.n_tokens == before
    next(steps)


def test_remembered_questions_stay_in_the_context(checkpoint, frames):
    session = StreamingSession(checkpoint, StreamOptions(max_answer_tokens=4, remember_questions=True))
    steps = comment(session, timed(frames))
    next(steps)
    before = session.context.n_tokens
    answer = "".join(session.ask("Who?"))
    assert session.context.n_tokens > before
    assert isinstance(answer, str)
    next(steps)


def test_a_turn_ends_at_silence_without_a_second_pass(checkpoint, frames):
    session = StreamingSession(checkpoint, StreamOptions())
    recorder = Recorder(session, say=lambda: checkpoint.chat.silence)
    step = session.step(frames[:6], 0, 3)
    assert (step.token_ids, step.text) == ([checkpoint.chat.silence], "")
    assert len(recorder.rows) == 1
    assert session.pending == [checkpoint.chat.silence, *checkpoint.chat.closing_ids()]


@pytest.mark.parametrize("compat", [None, "livecc"])
def test_a_cut_off_turn(checkpoint, frames, compat):
    """At the token limit the last token goes with the next turn; the published loop loses it."""
    spoken = iter(range(20, 26))
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=3, compat=compat))
    Recorder(session, say=lambda: next(spoken))
    session.step(frames[:6], 0, 3)
    kept = [] if compat else [22]
    assert session.pending == [*kept, *checkpoint.chat.closing_ids()]


def test_compat_appends_a_question_to_the_next_step(checkpoint, frames):
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=2, compat="livecc"))
    recorder = Recorder(session)
    session.step(frames[:6], 0, 3)
    assert list(session.ask("Who?")) == []
    at = len(recorder.fed)
    session.step(frames[6:8], 3, 4)
    question = checkpoint.chat.text_ids("Who?")
    fed = recorder.fed[at:]
    assert any(fed[i : i + len(question)] == question for i in range(len(fed)))


def choose(logits, seen, n=1, least_silence=None, generator=None, **options) -> list[int]:
    choice = Choice(DecodingOptions(**options), 3, generator, least_silence)
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
    rules = [Choice(DecodingOptions(repetition_penalty=p), 0) for p in (1.0, 1.1)]
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


def test_short_and_odd_sources(checkpoint, frames):
    options = StreamOptions(max_new_tokens=1)
    windows = [(s.start_s, s.end_s) for s in comment(StreamingSession(checkpoint, options), timed(frames[:9]))]
    assert windows == [(0, 3), (3, 4), (4, 5)]
    assert len(list(comment(StreamingSession(checkpoint, options), timed(frames[:3])))) == 1
    assert list(comment(StreamingSession(checkpoint, options), [])) == []


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
    assert all(0 < s.lag_s <= 2.0 + 2.5 for s in steps)
    ends = [s.end_s for s in steps]
    assert ends == sorted(ends) and len(set(ends)) == len(ends)


def test_two_sessions_do_not_disturb_each_other(checkpoint, frames):
    options = StreamOptions(max_new_tokens=4)
    alone = [s.token_ids for s in comment(StreamingSession(checkpoint, options), timed(frames[:12]))]
    first = comment(StreamingSession(checkpoint, options), timed(frames[:12]))
    second = comment(StreamingSession(checkpoint, options), timed(frames.flip(0)[:12]))
    assert [[next(first).token_ids, next(second).token_ids][0] for _ in range(4)] == alone


def test_watching_a_whole_clip(checkpoint, frames):
    session = StreamingSession(checkpoint, StreamOptions(max_answer_tokens=4))
    assert isinstance("".join(session.watch(frames[:8], "Who won?")), str)
    assert session.context.n_tokens > 8 // 2 * 6


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
