"""The streaming loop on a random model: cached equals one forward pass, questions, thresholds, limits, late frames."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from data.conversation import Turn
from data.words import step_label, step_slices, step_window
from models.cache import FIRST_CAPACITY, FullCache
from models.context import encode_frames
from models.decoding import DecodingOptions, TokenChooser
from models.load import load_checkpoint
from models.positions import position_ids
from models.streaming import Clock, StreamingSession, StreamOptions, comment

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


class Recorder:
    """Keeps the logits that a session chooses from, and what was fed."""

    def __init__(self, session):
        self.fed, self.logits = [], []
        feed = session.context.feed

        def recorded(ids, blocks=(), features=None):
            logits = feed(ids, blocks, features)
            self.fed += ids
            self.logits.append((len(self.fed) - 1, logits))
            return logits

        session.context.feed = recorded


@pytest.mark.parametrize("mode", ["mrope", "sequential", "livecc"])
def test_streaming_equals_one_forward_pass(checkpoint, frames, mode):
    """The largest logit difference over 16 turns with the cache, in float32, is below 1e-4."""
    session = StreamingSession(replace(checkpoint, position_mode=mode), StreamOptions(max_new_tokens=5))
    recorder = Recorder(session)
    for step in comment(session, timed(frames)):
        assert len(step.token_ids) <= 5
    model, blocks, features = checkpoint.model, [], []
    for window in step_slices(len(frames)):
        block, feature = encode_frames(model, frames[window])
        blocks.append(block)
        features.append(feature)
    ids = torch.tensor(recorder.fed)
    pads = {"image": model.config.image_token_id, "video": model.config.video_token_id}
    positions = position_ids(ids, blocks, mode, pads)
    with torch.inference_mode():
        embeds = model.embed(ids[None], torch.cat(features))
        whole = model.lm_head(model.hidden_states(embeds, positions[:, None]))[0]
    assert len(recorder.logits) >= N_TURNS
    assert max(float((whole[at] - logits).abs().max()) for at, logits in recorder.logits) < 1e-4


def test_the_context_is_the_training_format(checkpoint, frames):
    """What the loop feeds is token by token what a sample of the same turns trains on."""
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=4, query="Say it."))
    recorder = Recorder(session)
    steps = list(comment(session, timed(frames[:10])))
    turns = []
    for i in range(len(steps)):
        block, _ = encode_frames(checkpoint.model, frames[step_slices(10)[i]])
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
    session.chooser.choose = lambda logits, seen, n, may_be_silent: checkpoint.chat.silence
    recorder = Recorder(session)
    step = session.step(frames[:6], 0, 3)
    assert (step.token_ids, step.text) == ([checkpoint.chat.silence], "")
    assert len(recorder.logits) == 1
    assert session.pending == [checkpoint.chat.silence, *checkpoint.chat.closing_ids()]


@pytest.mark.parametrize("compat", [None, "livecc"])
def test_a_cut_off_turn(checkpoint, frames, compat):
    """At the token limit the last token goes with the next turn; the published loop loses it."""
    spoken = iter(range(20, 26))
    session = StreamingSession(checkpoint, StreamOptions(max_new_tokens=3, compat=compat))
    session.chooser.choose = lambda logits, seen, n, may_be_silent: next(spoken)
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


def chooser(silence=3, **options):
    return TokenChooser(DecodingOptions(**options), silence, torch.device("cpu"))


def test_penalty_lowers_what_was_seen():
    seen = torch.tensor([True, False, True, False])
    logits = torch.tensor([2.0, 1.9, -1.0, -1.05])
    assert chooser(repetition_penalty=1.0).choose(logits, seen, 0) == 0
    assert chooser(repetition_penalty=1.1).choose(logits, seen, 0) == 1


def test_threshold_rises_with_the_words_spoken():
    seen = torch.zeros(4, dtype=torch.bool)
    logits = torch.tensor([0.0, 0.0, 0.4, 1.0]).log_softmax(-1)  # P(silence) = 0.43
    options = {"repetition_penalty": 1.0, "silence_threshold_base": 0.2, "silence_threshold_step": 0.1}
    assert chooser(**options).choose(logits, seen, 0) == 3
    assert chooser(**options).choose(logits, seen, 2) == 3
    assert chooser(**options).choose(logits, seen, 3) == 2
    assert chooser(**options).choose(logits, seen, 3, may_be_silent=False) == 3


def test_sampling_is_seeded_and_follows_the_odds():
    seen = torch.zeros(3, dtype=torch.bool)
    logits = torch.tensor([0.7, 0.2, 0.1]).log()
    options = {"do_sample": True, "repetition_penalty": 1.0}

    def draws(**extra):
        sampler = chooser(**options, **extra)
        return [sampler.choose(logits, seen, 0) for _ in range(300)]

    assert draws() == draws()
    assert draws() != draws(seed=1)
    assert 0.6 < draws().count(0) / 300 < 0.8
    assert set(draws(top_k=2)) == {0, 1}
    assert set(draws(top_p=0.5)) == {0}
    assert draws(temperature=0.05).count(0) == 300


def test_the_cache_grows_past_its_first_store():
    keys = torch.randn(1, 2, FIRST_CAPACITY + 300, 4)
    cache = FullCache(1)
    for piece in keys.split(170, dim=2):
        held, _ = cache.update(piece, piece, 0)
    assert torch.equal(held, keys)
    fork = cache.fork()
    fork.update(keys[:, :, :1], keys[:, :, :1], 0)
    assert cache.get_seq_length() == keys.shape[2] == fork.get_seq_length() - 1


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
