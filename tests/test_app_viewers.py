"""The live page's viewers without a browser: places and the line, what idles, what is said of a slow machine."""

import asyncio
import contextlib
import time

import pytest

from demo.arguments import NANO_CHECKPOINT, NANO_MATCHES
from demo.web.options import ViewerArguments
from demo.web.pace import Pace
from demo.web.player import Player
from demo.web.settings import Settings, conversation_options, frame_pixels, has_qualities
from demo.web.timeline import Timeline
from demo.web.videos import Videos
from demo.web.viewers import Viewers
from models.load import load_checkpoint
from models.streaming.engine import Engine, EngineOptions
from models.streaming.session import StreamingSession
from tests.waiting import PATIENCE_S
from utils.errors import UserError


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")


@contextlib.asynccontextmanager
async def room(checkpoint, max_load: float = 0.9, **options):
    """Viewers, and a way to open a tab with the first match."""
    engine = Engine(checkpoint, EngineOptions(12, max_lag_s=PATIENCE_S, max_load=max_load))
    viewers = Viewers(engine, ViewerArguments(**options), True)
    viewers.start()

    async def sit_down(owner: str = "me"):
        viewer, _ = viewers.connect(None, owner)
        await viewer.open(viewers.videos.get("example1", owner))
        return viewer

    viewers.sit_down = sit_down
    try:
        yield viewers
    finally:
        await viewers.close()


async def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def told(viewer, kind: str) -> list[dict]:
    return [record for record in viewer.log.after(0) if record["type"] == kind]


def test_the_line_moves_up_in_order(checkpoint):
    async def scene():
        async with room(checkpoint, max_sessions=1) as viewers:
            first, second, third, fourth = [await viewers.sit_down() for _ in range(4)]
            for viewer in (first, second, third, fourth):
                await viewer.play(0.0, 1.0)
            assert viewers.seated == {first} and viewers.waiting == [second, third, fourth]
            assert told(third, "queued")[-1]["place"] == 2
            second.pause(0.0)  # does not want to wait any more
            assert told(third, "queued")[-1]["place"] == 1
            await viewers.disconnect(first)
            assert first.run is None and first not in viewers.seated
            await until(lambda: third.run or fourth.run)
            assert viewers.seated == {third} and viewers.waiting == [fourth] and third.run.player.playing

    asyncio.run(scene())


def test_nothing_is_said_before_its_second_was_played(checkpoint):
    """While a player stands at 3.5 s, another one's whole film is commented."""

    async def scene():
        async with room(checkpoint) as viewers:
            slow, fast = await viewers.sit_down(), await viewers.sit_down("you")
            await slow.play(0.0, 1.0)
            slow.run.player.pause(3.5)
            await fast.play(0.0, 1.0)
            fast.finish()
            await until(lambda: told(fast, "finished") and len(told(slow, "step")) > 0)
            assert [step["end_s"] for step in told(slow, "step")] == [3.0]
            slow.run.player.pause(5.0)
            await until(lambda: len(told(slow, "step")) == 3)
            slow.finish()
            await until(lambda: told(slow, "finished"))
            return [[(step["end_s"], step["text"]) for step in told(viewer, "step")] for viewer in (slow, fast)]

    slow, fast = asyncio.run(scene())
    assert slow == fast and len(slow) > 20


def test_a_busy_model_makes_viewers_wait_too(checkpoint):
    async def scene():
        async with room(checkpoint, max_load=0.5) as viewers:
            viewers.engine.step_cost_s = 0.4
            first, second = await viewers.sit_down(), await viewers.sit_down()
            await first.play(0.0, 1.0)
            await second.play(0.0, 1.0)
            assert viewers.waiting == [second] and told(second, "queued")
            await viewers.disconnect(first)
            await until(lambda: second.run is not None)

    asyncio.run(scene())


def test_seeking_takes_questions_along_and_keeps_the_place(checkpoint):
    async def scene():
        async with room(checkpoint, max_sessions=1) as viewers:
            viewer = await viewers.sit_down()
            await viewer.play(0.0, 1.0)
            await viewer.ask("What is the score?", "moment")  # before anything was seen: it waits
            await viewer.seek(10.3)
            assert viewers.seated == {viewer} and told(viewer, "started")[-1]["start_s"] == 10.0
            viewer.finish()  # the rest of the video at once
            await until(lambda: told(viewer, "finished"))
            assert len(told(viewer, "answer")) == 1
            steps = [record["start_s"] for record in told(viewer, "step")]
            assert steps[0] == 10.0 and steps == sorted(steps) and not viewers.seated
            await viewer.play(30.0, 1.0)
            assert told(viewer, "refused")[-1]["message"].startswith("The video ends here")
            assert not viewers.seated and not viewers.waiting

    asyncio.run(scene())


def test_a_speed_that_cannot_be_followed_is_refused_with_a_word(checkpoint):
    async def scene():
        async with room(checkpoint) as viewers:
            viewer = await viewers.sit_down()
            await viewer.play(0.0, 1.5)
            assert viewer.run.player.rate == 1.5 and not told(viewer, "rate")
            viewer.set_rate(4.0)
            assert viewer.run.player.rate == 2.0
            (refused,) = told(viewer, "rate")
            assert refused["rate"] == 2.0 and "can be commented" in refused["message"]

    asyncio.run(scene())


def test_what_idles_or_is_gone_is_given_up(checkpoint, monkeypatch):
    monkeypatch.setattr("demo.web.viewers.GRACE_S", 0.1)

    async def scene():
        async with room(checkpoint, idle_minutes=0.01) as viewers:
            viewer = await viewers.sit_down()
            await viewer.play(0.0, 1.0)
            viewer.pause(0.5)
            await until(lambda: told(viewer, "note"))
            assert viewer.run is None and not viewers.seated
            path = viewers.videos.folder / "0123"
            path.write_bytes(NANO_MATCHES[0].read_bytes())
            viewers.videos.add(path, "never opened.mp4", "me")
            await viewers.disconnect(viewer)
            await until(lambda: not viewers.viewers and not path.exists())

    asyncio.run(scene())


def test_a_conversation_says_what_the_model_says_of_the_clip(checkpoint):
    async def scene():
        async with room(checkpoint) as viewers:
            viewer = await viewers.sit_down()
            for question in ("What is the score?", "Who has the ball?"):
                await viewer.ask(question, "whole")
            await until(lambda: len(told(viewer, "answer")) == 2)
            return viewer.talk._read_clip(), [record["text"] for record in told(viewer, "answer")]

    clip, answers = asyncio.run(scene())
    alone = StreamingSession(checkpoint, conversation_options())
    assert answers[0] == "".join(alone.watch(clip, "What is the score?")).strip()
    assert answers[1] == "".join(alone.ask("Who has the ball?")).strip()


def test_a_slow_machine_is_told_once_with_what_to_change():
    pace = Pace()
    assert [pace.judge(lag_s, 0) for lag_s in (0.1, 3.0, 3.0, 3.0)] == [None, None, True, None]
    words = pace.words(rate=2.0, quality="Sharp", n_viewers=3)
    assert "3.0 s late" in words["message"]
    assert "normal speed" in words["advice"][0] and "Fast" in words["advice"][1] and "(3 do now)" in words["advice"][2]
    assert [pace.judge(0.1, 0) for _ in range(5)][-2:] == [False, None]
    assert Pace().judge(0.1, 2) is None


def test_a_player_that_falls_silent_is_not_believed_to_go_on():
    player = Player(10.0, reports=True)
    player.play(10.0, 2.0)
    player._at_s -= 60
    assert player.now() == 16.0
    player.pause(12.0)
    assert player.now() == 12.0
    player.close()
    player.wait_until(1e9)


def test_what_is_said_anew_takes_the_place_of_the_old():
    timeline = Timeline()
    for start_s in range(5):
        timeline.add_step(start_s, start_s + 1, f"old {start_s}")
    timeline.add_step(1.0, 4.0, "new")
    assert [text for _, _, text in timeline.steps] == ["old 0", "new", "old 4"]


def test_an_example_that_is_no_video_is_an_error(tmp_path):
    (tmp_path / "notes.txt").write_text("no video")
    for path in (tmp_path / "notes.txt", tmp_path / "missing.mp4", tmp_path):
        with pytest.raises(UserError, match=str(path)):
            Videos([str(path)], 10**6, 60)


def test_choices_mean_something_to_the_model(checkpoint):
    assert Settings(query="  a \n b ").query == "a b" and Settings(query=" ").query
    assert Settings(words=6).stream_options().words_per_second is None
    assert Settings(words=2).stream_options().words_per_second == 2
    assert not has_qualities(checkpoint) and frame_pixels(checkpoint, "Sharp") == checkpoint.limits.total_pixels
