"""Ways of breaking what is promised of streams: the engine, caches, positions, decoding, answers."""

from dev.mutations.mutation import Mutation

STREAMING: tuple[Mutation, ...] = (
    Mutation(
        name="black_frames",
        promise="a stream is commented from its own pictures",
        file="models/streaming.py",
        old="        block, features = yield Encode(frames)\n        encoded = time.perf_counter()",
        new="        block, features = yield Encode(frames * 0)\n        encoded = time.perf_counter()",
        tests=("tests/test_streaming.py::test_streaming_equals_one_forward_pass",),
    ),
)
