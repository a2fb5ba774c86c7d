"""Streams whose tokens are decoded in a graph over a pool, and the same without: what CPU and GPU tests share."""

from dataclasses import dataclass

import torch
from torch import Tensor

from models.load import Checkpoint
from models.streaming.options import RetentionOptions, StreamOptions
from models.streaming.requests import DecodeRequest
from models.streaming.session import StreamingSession, comment, timed_frames
from tests.pictures import noise
from tests.recorder import Recorder

ORDERS = ((0, 1, 2), (2, 0), (1,), (2, 1, 0))  # of the streams in a batch: all, some, one, and in another order


@dataclass
class Decoded:
    """Logits [N, V] of the same tokens in the same contexts: from the graph, and from the eager layers."""

    graph: Tensor
    eager: Tensor
    recorder: Recorder


def decode_both_ways(checkpoint: Checkpoint, retention: RetentionOptions) -> Decoded:
    """Three streams of different films and lengths go on with single tokens, in batches of several orders."""
    recorder, eager = Recorder(checkpoint.model, graph=True), Recorder(checkpoint.model)
    options = StreamOptions(max_new_tokens=5, retention=retention)
    sessions = [StreamingSession(checkpoint, options, recorder) for _ in range(3)]
    for number, session in enumerate(sessions):
        list(comment(session, timed_frames(noise(10 + 6 * number, number))))
        session.state.begin_step(1000.0)  # a window drops its frames: there are slots that nobody may see
    assert [session.state.cache.row for session in sessions] == [0, 1, 2]
    n_before = len(recorder.calls)
    for turn, order in enumerate(ORDERS):
        tokens = {number: 300 + 7 * number + turn for number in order}
        copies = [DecodeRequest(sessions[n].state.fork(), [tokens[n]], sessions[n]._choice(0, True)) for n in order]
        eager.execute(copies)
        recorder.execute([DecodeRequest(sessions[n].state, [tokens[n]], sessions[n]._choice(0, True)) for n in order])
    assert recorder.n_in_graph >= len(ORDERS) and eager.n_in_graph == 0
    return Decoded(torch.cat(recorder.calls[n_before:]), torch.cat(eager.calls), recorder)
