"""What a stream keeps: a wide window is the whole stream, what stays after an eviction is exact, nothing grows."""

import itertools
import re

import numpy as np
import pytest
import torch

from data.samples.positions import PositionTracker
from models.load import load_checkpoint
from models.streaming.cache import KVCache
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.rotary import rotate
from models.streaming.session import StreamingSession, comment, timed_frames
from models.streaming.session_file import load_session, save_session
from models.streaming.stream_state import StreamState
from models.streaming.token_runs import TokenRun, TokenRuns
from tests.graph_decoding import decode_both_ways
from tests.recorder import Recorder, record, spread
from tests.reference import Reference
from utils.errors import UserError

WINDOW = RetentionOptions("window", sink_tokens=64, text_tokens=60, vision_s=4.0)
WIDE = RetentionOptions("window", sink_tokens=10**6, text_tokens=10**6, vision_s=1e6)
REREAD = RetentionOptions("reprefill", reprefill_s=5.0)


@pytest.fixture(scope="module")
def checkpoint(tiny_checkpoint):
    return load_checkpoint(tiny_checkpoint, device="cpu", dtype="float32")


def noise(n_steps: int, seed: int = 1) -> torch.Tensor:
    shape = (6 + 2 * (n_steps - 1), 3, 56, 84)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def session(checkpoint, retention, **options) -> StreamingSession:
    return StreamingSession(checkpoint, StreamOptions(max_new_tokens=5, retention=retention, **options))


def said(streaming, frames, start_s=0.0) -> list[list[int]]:
    return [step.token_ids for step in comment(streaming, timed_frames(frames, start_s))]


def next_logits(streaming) -> torch.Tensor:
    """The logits after one more token, which the session does not keep."""
    rows = []
    hook = streaming.checkpoint.model.lm_head.register_forward_hook(
        lambda _, args, logits: rows.append(logits[0].clone())
    )
    next(streaming.fork().ask("Who?"))
    hook.remove()
    return rows[0]


def test_a_window_larger_than_the_stream_is_the_whole_stream(checkpoint):
    full, wide = session(checkpoint, RetentionOptions()), session(checkpoint, WIDE)
    frames = noise(20)
    assert said(full, frames) == said(wide, frames)
    assert float((next_logits(full) - next_logits(wide)).abs().max()) < 1e-5
    assert full.state.n_tokens == wide.state.n_tokens


class Witness:
    """Keeps the upright keys of every token when it is read, in float64, by slot."""

    def __init__(self, state: StreamState):
        self.state, self.upright = state, {}

    def note_new(self) -> None:
        for run in self.state.tokens.runs:
            for i, slot in enumerate(run.slots.tolist()):
                key = (slot, run.step, int(run.ids[i]), run.is_vision)
                if key not in self.upright:
                    cos, sin = turns(self.state, run.positions[:, i : i + 1])
                    self.upright[key] = rotate(self.state.cache.keys[:, :, slot : slot + 1].double(), cos, -sin)

    def largest_error(self) -> float:
        errors = []
        for run in self.state.tokens.runs:
            for i, slot in enumerate(run.slots.tolist()):
                upright = self.upright[(slot, run.step, int(run.ids[i]), run.is_vision)]
                expected = rotate(upright, *turns(self.state, run.positions[:, i : i + 1]))
                errors.append(float((self.state.cache.keys[:, :, slot : slot + 1] - expected).abs().max()))
        return max(errors)


def turns(state, positions):
    """cos and sin in float64 of the model's own angles, whose float32 rounding is 0.002 rad at 30,000."""
    angle = (torch.from_numpy(positions).float()[state.rotary.axes].T * state.rotary.frequencies).double()
    return torch.cat((angle.cos(),) * 2, -1), torch.cat((angle.sin(),) * 2, -1)


@pytest.mark.parametrize("mode", ["mrope", "sequential"])
def test_after_evictions_keys_are_those_of_their_new_positions(checkpoint, mode):
    """Every key in the cache equals the upright key of its token turned to where the token now is."""
    streaming = session(checkpoint, WINDOW)
    streaming._state = StreamState(checkpoint.model, mode, WINDOW, first_position=31_600)
    witness, lowest = Witness(streaming.state), []
    for step in comment(streaming, timed_frames(noise(40))):
        witness.note_new()
        check_runs(streaming.state)
        lowest.append(streaming.state.tokens.runs[0].start)
        assert witness.largest_error() < 1e-5, step.start_s
    assert max(lowest) > 31_000 and min(lowest) == 0  # it was moved back to the start on the way


def check_runs(state: StreamState) -> None:
    """Segments follow each other without gaps, and they, the cache and the counts agree on what is there."""
    runs = state.tokens.runs
    for before, after in itertools.pairwise(runs):
        assert before.stop == after.start
    for run in runs:
        assert run.positions.min() == run.start and run.positions.max() < run.stop
    slots = np.concatenate([run.slots for run in runs])
    assert len(set(slots.tolist())) == len(slots) == state.cache.n_live
    assert state.cache.live[torch.from_numpy(slots)].all() and int(state.cache.live.sum()) == len(slots)
    assert int(state.counts.sum()) == len(slots)
    assert runs[-1].stop == state.positions.next <= state.max_positions


def test_a_window_keeps_query_and_latest_frames(checkpoint):
    streaming = session(checkpoint, WINDOW, query="Say what you see.")
    said(streaming, noise(30))
    ids = np.concatenate([run.ids for run in streaming.state.tokens.runs]).tolist()
    query = checkpoint.chat.text_ids("Say what you see.")
    assert ids[: len(checkpoint.chat.system_ids())] == checkpoint.chat.system_ids()
    assert any(ids[i : i + len(query)] == query for i in range(len(ids)))
    frames = [run for run in streaming.state.tokens.runs if run.is_vision and not run.pinned]
    assert [run.step for run in frames] == [26, 27, 28, 29]
    text = [s for s in streaming.state.tokens.runs if not s.is_vision and not s.pinned and s.step < 29]
    assert 30 < sum(map(len, text)) <= WINDOW.text_tokens  # before the latest step came to it


def test_twelve_hundred_steps_do_not_drift(checkpoint):
    """Positions, memory and tokens in the cache stay where they are after the window has filled."""
    streaming = session(checkpoint, WINDOW, repetition_penalty=1.0)
    streaming._state = StreamState(checkpoint.model, "mrope", WINDOW, first_position=31_000)
    widths, highest = [], []
    frames = noise(20)[:8]
    for number in range(1200):
        first = number == 0
        start_s = 0.0 if first else number + 2.0
        picture = frames[:6] if first else frames[[number % 7, (number + 3) % 7]]
        streaming.step(picture, start_s, start_s + (3.0 if first else 1.0))
        widths.append(streaming.state.cache.width)
        highest.append(streaming.state.positions.next)
    check_runs(streaming.state)
    assert max(widths[100:]) == max(widths[1100:]) == max(widths)
    assert max(highest) <= checkpoint.model.config.get_text_config().max_position_embeddings
    assert streaming.state.cache.capacity == 1024
    assert torch.isfinite(next_logits(streaming)).all()


def test_text_is_read_again_without_its_frames(checkpoint):
    streaming = session(checkpoint, REREAD)
    sizes = [step.n_context for step in comment(streaming, timed_frames(noise(16)))]
    check_runs(streaming.state)
    assert any(b < a for a, b in itertools.pairwise(sizes))
    text = [s for s in streaming.state.tokens.runs if not s.is_vision]
    assert text[0].step == 0 and text[0].pinned
    assert sorted({s.step for s in text}) == list(range(16))


def test_what_is_read_again_is_read_as_if_it_were_new(checkpoint, tiny_checkpoint):
    """From the reading on, logits are the library's over that text and the frames since."""
    streaming, recorder = record(checkpoint, StreamOptions(max_new_tokens=3, retention=REREAD))
    frames, first = noise(5), 0
    for number, (start, stop) in enumerate(itertools.pairwise([0, 6, 8, 10, 12, 14])):
        first = len(recorder.fed) if number == 2 else first  # at second 5
        streaming.step(frames[start:stop], max(0.0, number + 2.0) if number else 0.0, number + 3.0)
    pads = recorder.fed[first:].count(checkpoint.chat.video_pad)
    whole = Reference(tiny_checkpoint).logits(recorder.fed[first:], [frames[8:10], frames[10:12], frames[12:14]])
    since = [(at - first, logits) for at, logits in recorder.rows if at >= first]
    assert len(since) == 9 and pads == 3 * 6 and recorder.fed[first : first + 3] == checkpoint.chat.system_ids()[:3]
    assert max(float((whole[at] - logits).abs().max()) for at, logits in since) < 1e-4


def test_the_latest_text_is_read_again_where_there_is_too_much(checkpoint):
    tight = RetentionOptions("reprefill", reprefill_s=5.0, reprefill_text_tokens=110)
    streaming = session(checkpoint, tight)
    said(streaming, noise(24))
    steps = [s.step for s in streaming.state.tokens.runs if not s.is_vision]
    assert 0 in steps and min(step for step in steps if step) > 5
    check_runs(streaming.state)


def test_a_fork_of_a_window_goes_its_own_way(checkpoint):
    frames = noise(30)
    plain = said(session(checkpoint, WINDOW), frames)
    streaming, forked = session(checkpoint, WINDOW), None
    tokens = []
    for number, step in enumerate(comment(streaming, timed_frames(frames))):
        tokens.append(step.token_ids)
        if number == 12:
            forked = streaming.fork()
            other = said(forked, noise(12, seed=9)[:24], 50.0)
    assert tokens == plain and other
    check_runs(forked.state)


IMMUTABLE = (bool, int, float, str, tuple, type(None), torch.device, RetentionOptions, StreamOptions)
SHARED = {"checkpoint", "batch", "chat", "model", "rotary"}  # weights and tables, which no stream changes


def parts(thing, path="") -> dict:
    """Path -> value of everything below a session that belongs to its stream."""
    found = {}
    for name, value in enumerate(thing) if isinstance(thing, list) else vars(thing).items():
        if name not in SHARED:
            found[f"{path}.{name}"] = value
            if isinstance(value, list | StreamState | KVCache | TokenRuns | TokenRun | PositionTracker):
                found |= parts(value, f"{path}.{name}")
    return found


def values(session) -> dict:
    """Path -> number, text or numbers; keys and values aside, of which the unused slots hold anything."""
    found = {}
    for path, value in parts(session).items():
        value = value.get_state() if isinstance(value, torch.Generator) else value
        if isinstance(value, torch.Tensor | np.ndarray) and not path.endswith((".keys", ".values")):
            found[path] = value.tolist()
        elif isinstance(value, IMMUTABLE):
            found[path] = value
    return found


@pytest.mark.parametrize("retention", [RetentionOptions(), WINDOW, REREAD], ids=["full", "window", "reprefill"])
def test_every_attribute_of_a_fork_is_immutable_or_its_own(checkpoint, retention):
    """Also one that is added later: `fork` must name it, and copy it where it can change."""
    streaming = session(checkpoint, retention, do_sample=True, words_per_second=3)
    said(streaming, noise(16))
    streaming.pending = [*streaming.state.begin_step(100.0), *streaming.pending]
    assert bool(streaming.state.to_reread) == (retention is REREAD)
    forked, before = streaming.fork(), values(streaming)
    assert values(forked) == before and len(before) > 30
    others = parts(forked)
    for path, value in parts(streaming).items():
        array_of_a_run = re.search(r"\.(runs|to_reread)\.\d+\.", path)  # replaced, and never written to
        assert isinstance(value, IMMUTABLE) or array_of_a_run or others[path] is not value, path
    said(forked, noise(24, seed=9), 50.0)
    assert values(streaming) == before


@pytest.mark.parametrize("retention", [RetentionOptions(), WINDOW, REREAD], ids=["full", "window", "reprefill"])
@pytest.mark.parametrize("do_sample", [False, True])
def test_a_saved_session_continues_identically(checkpoint, tmp_path, retention, do_sample):
    frames, options = noise(24), {"do_sample": do_sample, "words_per_second": 2.5}
    whole = session(checkpoint, retention, **options)
    plain = said(whole, frames)
    first = session(checkpoint, retention, **options)
    before = [first.step(frames[:6], 0.0, 3.0).token_ids]
    before += [first.step(frames[4 + 2 * i : 6 + 2 * i], i + 2.0, i + 3.0).token_ids for i in range(1, 12)]
    path = save_session(first, tmp_path / "s.safetensors")
    loaded = load_session(path, checkpoint)
    rest = [loaded.step(frames[4 + 2 * i : 6 + 2 * i], i + 2.0, i + 3.0).token_ids for i in range(12, 24)]
    assert before + rest == plain
    assert torch.equal(next_logits(loaded), next_logits(whole))
    assert torch.equal(loaded.state.counts, whole.state.counts)
    assert len(set(map(tuple, plain))) > 20  # of 24 steps


def test_files_that_are_no_session_are_refused(checkpoint, tmp_path):
    (tmp_path / "junk").write_bytes(b"junk" * 100)
    for name in ("junk", "none"):
        with pytest.raises(UserError, match=name):
            load_session(tmp_path / name, checkpoint)
    path = save_session(session(checkpoint, WINDOW), tmp_path / "s")
    parameter = next(checkpoint.model.parameters())
    kept = parameter.detach().clone()
    try:
        parameter.data += 1
        with pytest.raises(UserError, match="other weights"):
            load_session(path, checkpoint)
    finally:
        parameter.data.copy_(kept)


def test_a_cap_on_words_is_kept(checkpoint):
    talkative = {"do_sample": True, "temperature": 3.0, "silence_threshold_base": 1.0}
    free = session(checkpoint, RetentionOptions(), **talkative)
    capped = session(checkpoint, RetentionOptions(), **talkative, words_per_second=1.0)
    count = [sum(len(step.text.split()) for step in comment(s, timed_frames(noise(20)))) for s in (free, capped)]
    assert count[1] <= 22 < count[0]


@pytest.mark.parametrize("retention", [RetentionOptions(), WINDOW], ids=["full", "window"])
def test_decoding_over_a_pool_says_the_same(checkpoint, retention):
    """What a GPU captures as a graph, run here as it is: static shapes over the rows of a pool."""
    batch = Recorder(checkpoint.model, graph=True, n_slots=1024)
    options = StreamOptions(max_new_tokens=5, max_answer_tokens=6, retention=retention)
    frames = noise(20)
    pooled, plain = StreamingSession(checkpoint, options, batch), StreamingSession(checkpoint, options)
    assert pooled.state.cache.row == 0
    for number, (ours, theirs) in enumerate(
        zip(comment(pooled, timed_frames(frames)), comment(plain, timed_frames(frames)), strict=True)
    ):
        assert ours.token_ids == theirs.token_ids
        if number % 5 == 1:
            assert "".join(pooled.ask("Who?")) == "".join(plain.ask("Who?"))
    pooled.close()
    assert batch.n_in_graph >= 20 * 4 + 4 * 5 and batch.pool.free == [3, 2, 1, 0]


@pytest.mark.parametrize("retention", [RetentionOptions(), WINDOW], ids=["full", "window"])
def test_the_graphs_logits_are_those_of_the_eager_layers(checkpoint, retention):
    """Of three streams with different pasts in one batch, in several orders; each differs from all others."""
    decoded = decode_both_ways(checkpoint, retention)
    torch.testing.assert_close(decoded.graph, decoded.eager, atol=1e-5, rtol=0)
    assert spread(decoded.eager) > 0.3


def test_a_cache_that_outgrows_its_row_moves_out(checkpoint):
    batch = Recorder(checkpoint.model, graph=True, n_slots=128)
    options = StreamOptions(max_new_tokens=5)
    pooled, plain = StreamingSession(checkpoint, options, batch), StreamingSession(checkpoint, options)
    assert said(pooled, noise(12)) == said(plain, noise(12))
    assert pooled.state.cache.row is None and pooled.state.cache.capacity > 128
    assert 0 < batch.n_in_graph < 12 * 4
    pooled.close()
    assert batch.pool.free == [3, 2, 1, 0]


@pytest.mark.parametrize("retention", [WINDOW, REREAD], ids=["window", "reprefill"])
def test_a_cache_grows_and_forgets(checkpoint, monkeypatch, retention):
    """It grows while the model reads, where tensors are inference tensors, and forgets between two steps."""
    frames = noise(16)
    wanted = said(session(checkpoint, retention), frames)
    monkeypatch.setattr("models.streaming.cache.FIRST_CAPACITY", 32)
    small = session(checkpoint, retention)
    assert said(small, frames) == wanted
    assert small.state.cache.capacity > 32 and not small.state.cache.keys.is_inference()
    fork = small.fork()
    assert said(fork, noise(8, 2), 18.0) == said(small, noise(8, 2), 18.0)
