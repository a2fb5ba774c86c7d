"""The live page's viewers without a browser: places and the line, what idles, what is said of a slow machine."""

import asyncio
import contextlib
import time

import pytest

from demo.arguments import NANO_CHECKPOINT, NANO_MATCHES
from demo.live.api_error import ApiError
from demo.live.session import MAX_QUESTIONS
from demo.web.history import CommentaryHistory
from demo.web.lateness import LatenessMonitor
from demo.web.options import ViewerArguments
from demo.web.player import Player
from demo.web.settings import Settings, conversation_options, frame_pixels, has_qualities
from demo.web.tab_registry import TabRegistry
from demo.web.videos import Videos
from models.load import load_checkpoint
from models.streaming.engine import Engine, EngineOptions
from models.streaming.session import StreamingSession
from tests.waiting import PATIENCE_S
from utils.errors import UserError


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")


@contextlib.asynccontextmanager
async def serving_tabs(checkpoint, max_load: float = 0.9, **options):
    """Viewers, and a way to open a tab with the first match."""
    engine = Engine(checkpoint, EngineOptions(12, max_lag_s=PATIENCE_S, max_load=max_load))
    registry = TabRegistry(engine, ViewerArguments(**options), True)
    registry.start()

    async def sit_down(owner: str = "me"):
        tab, _ = registry.connect(None, owner)
        await tab.open(registry.videos.get("example1", owner))
        return tab

    registry.sit_down = sit_down
    try:
        yield registry
    finally:
        await registry.close()


async def until(condition) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


def told(tab, kind: str) -> list[dict]:
    return [record for record in tab.log.after(0) if record["type"] == kind]


def test_the_line_moves_up_in_order(checkpoint):
    async def scene():
        async with serving_tabs(checkpoint, max_sessions=1) as registry:
            first, second, third, fourth = [await registry.sit_down() for _ in range(4)]
            for tab in (first, second, third, fourth):
                await tab.play(0.0, 1.0)
            assert registry.seated == {first} and registry.waiting == [second, third, fourth]
            assert told(third, "queued")[-1]["place"] == 2
            second.pause(0.0)  # does not want to wait any more
            assert told(third, "queued")[-1]["place"] == 1
            await registry.disconnect(first)
            assert first.run is None and first not in registry.seated
            await until(lambda: third.run or fourth.run)
            assert registry.seated == {third} and registry.waiting == [fourth] and third.run.player.playing

    asyncio.run(scene())


def test_nothing_is_said_before_its_second_was_played(checkpoint):
    """While a player stands at 3.5 s, another one's whole film is commented."""

    async def scene():
        async with serving_tabs(checkpoint) as registry:
            slow, fast = await registry.sit_down(), await registry.sit_down("you")
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
            return [[(step["end_s"], step["text"]) for step in told(tab, "step")] for tab in (slow, fast)]

    slow, fast = asyncio.run(scene())
    assert slow == fast and len(slow) > 20


def test_a_busy_model_makes_viewers_wait_too(checkpoint):
    async def scene():
        async with serving_tabs(checkpoint, max_load=0.5) as registry:
            registry.engine.step_cost_s = 0.4
            first, second = await registry.sit_down(), await registry.sit_down()
            await first.play(0.0, 1.0)
            await second.play(0.0, 1.0)
            assert registry.waiting == [second] and told(second, "queued")
            await registry.disconnect(first)
            await until(lambda: second.run is not None)

    asyncio.run(scene())


def test_seeking_takes_questions_along_and_keeps_the_place(checkpoint):
    async def scene():
        async with serving_tabs(checkpoint, max_sessions=1) as registry:
            tab = await registry.sit_down()
            await tab.play(0.0, 1.0)
            await tab.ask("What is the score?", "moment")  # before anything was seen: it waits
            await tab.seek(10.3)
            assert registry.seated == {tab} and told(tab, "started")[-1]["start_s"] == 10.0
            tab.finish()  # the rest of the video at once
            await until(lambda: told(tab, "finished"))
            assert len(told(tab, "answer")) == 1
            steps = [record["start_s"] for record in told(tab, "step")]
            assert steps[0] == 10.0 and steps == sorted(steps) and not registry.seated
            await tab.play(30.0, 1.0)
            assert told(tab, "refused")[-1]["message"].startswith("The video ends here")
            assert not registry.seated and not registry.waiting

    asyncio.run(scene())


def test_an_answer_stands_under_its_own_question_after_a_refusal(checkpoint):
    async def scene():
        async with serving_tabs(checkpoint) as registry:
            tab = await registry.sit_down()
            await tab.play(0.0, 1.0)
            tab.run.player.pause(0.0)  # nothing is seen yet: questions wait
            for number in range(MAX_QUESTIONS):
                await tab.ask(f"Question {number}?", "moment")
            with pytest.raises(ApiError, match="429"):
                await tab.ask("One too many?", "moment")
            tab.run.player.pause(5.0)
            await until(lambda: len(told(tab, "answer")) == MAX_QUESTIONS)
            await tab.ask("Another?", "moment")
            await until(lambda: len(told(tab, "answer")) == MAX_QUESTIONS + 1)
            return told(tab, "asked"), told(tab, "answer")

    asked, answers = asyncio.run(scene())
    questions = {record["id"]: record["question"] for record in asked}
    assert len(questions) == len(asked) and "One too many?" not in questions.values()
    assert {record["id"]: record["question"] for record in answers} == questions


@pytest.mark.parametrize("about", ["moment", "whole"])
def test_an_answer_that_overtakes_its_number_is_told_after_its_question(checkpoint, about):
    """The engine answers before the thread that asked has come back to the event loop."""

    async def scene():
        async with serving_tabs(checkpoint) as registry:
            tab = await registry.sit_down()
            await tab.play(0.0, 1.0)
            tab.run.player.pause(0.0)
            await tab.ask("What is the score?", "whole")
            await until(lambda: told(tab, "answer"))
            target = tab.run if about == "moment" else tab.conversation
            answer = {"type": "answer", "id": 77, "question": "Who?", "text": "Cyan", "seconds": 0.1}
            if about == "moment":
                tab._take(target, answer)
            else:
                tab._take_conversation(target, answer)
            assert len(told(tab, "answer")) == 1
            tab._tell_asked(target.questions, 77, 2.5, "Who?", about=about)
            late = tab.log.after(0)[-2:]
            return [(record["type"], record["id"]) for record in late], target.questions.page_id(77), tab.history

    late, page_id, history = asyncio.run(scene())
    assert late == [("asked", page_id), ("answer", page_id)]
    assert history.questions[-1] == (2.5, "Who?", "Cyan")


def test_a_speed_that_cannot_be_followed_is_refused_with_a_word(checkpoint):
    async def scene():
        async with serving_tabs(checkpoint) as registry:
            tab = await registry.sit_down()
            await tab.play(0.0, 1.5)
            assert tab.run.player.rate == 1.5 and not told(tab, "rate")
            tab.set_rate(4.0)
            assert tab.run.player.rate == 2.0
            (refused,) = told(tab, "rate")
            assert refused["rate"] == 2.0 and "can be commented" in refused["message"]

    asyncio.run(scene())


def test_what_idles_or_is_gone_is_given_up(checkpoint, monkeypatch):
    monkeypatch.setattr("demo.web.tab_registry.GRACE_S", 0.1)

    async def scene():
        async with serving_tabs(checkpoint, idle_minutes=0.01) as registry:
            tab = await registry.sit_down()
            await tab.play(0.0, 1.0)
            tab.pause(0.5)
            await until(lambda: told(tab, "note"))
            assert tab.run is None and not registry.seated
            path = registry.videos.folder / "0123"
            path.write_bytes(NANO_MATCHES[0].read_bytes())
            registry.videos.add(path, "never opened.mp4", "me")
            await registry.disconnect(tab)
            await until(lambda: not registry.tabs and not path.exists())

    asyncio.run(scene())


def test_a_conversation_says_what_the_model_says_of_the_clip(checkpoint):
    async def scene():
        async with serving_tabs(checkpoint) as registry:
            tab = await registry.sit_down()
            for question in ("What is the score?", "Who has the ball?"):
                await tab.ask(question, "whole")
            await until(lambda: len(told(tab, "answer")) == 2)
            return tab.conversation._read_clip(), [record["text"] for record in told(tab, "answer")]

    clip, answers = asyncio.run(scene())
    alone = StreamingSession(checkpoint, conversation_options())
    assert answers[0] == "".join(alone.watch(clip.frames, "What is the score?", clip.plan.frame_s)).strip()
    assert answers[1] == "".join(alone.ask("Who has the ball?")).strip()


def test_a_slow_machine_is_told_once_with_what_to_change():
    lateness = LatenessMonitor()
    assert [lateness.judge(lag_s, 0) for lag_s in (0.1, 3.0, 3.0, 3.0)] == [None, None, True, None]
    words = lateness.words(rate=2.0, quality="Sharp", n_viewers=3)
    assert "3.0 s late" in words["message"]
    assert "normal speed" in words["advice"][0] and "Fast" in words["advice"][1] and "(3 do now)" in words["advice"][2]
    assert [lateness.judge(0.1, 0) for _ in range(5)][-2:] == [False, None]
    assert LatenessMonitor().judge(0.1, 2) is None


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
    history = CommentaryHistory()
    for start_s in range(5):
        history.add_step(start_s, start_s + 1, f"old {start_s}")
    history.add_step(1.0, 4.0, "new")
    assert [text for _, _, text in history.steps] == ["old 0", "new", "old 4"]


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
