"""One browser tab: what it watches, its commentary, its place in line, and what it is told.

Everything here belongs to the event loop; the engine's records are handed over to it.
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass

from data.sources.catalogue import open_source
from data.sources.spec import SourceSpec
from data.video.frame_plan import FPS
from demo.live.events import EventLog
from demo.live.refusal import Refusal
from demo.web.player import FASTEST, SLOWEST, Player
from demo.web.run import Latest, Preview, Run, make_run
from demo.web.settings import Settings, has_qualities
from demo.web.talk import Talk
from demo.web.timeline import Timeline
from demo.web.videos import Video
from models.streaming.options import DEFAULT_QUERY
from utils.errors import UserError

log = logging.getLogger(__name__)

JUMP_S = 1.5  # a player that is so far from where it was believed to be was moved
RECORDS_KEPT = 512  # for a page that lost its connection: some minutes of them
STOP_S = 5.0  # that a step in progress may take


@dataclass
class Wish:
    """What the viewer wants commented: from which second, and whether the player runs."""

    time_s: float
    playing: bool = True
    rate: float = 1.0
    why: str = "play"


class Viewer:
    """room: the Viewers that it belongs to, which gives out the places."""

    def __init__(self, viewer_id: str, owner: str, room):
        self.id, self.owner, self.room = viewer_id, owner, room
        self.loop = asyncio.get_running_loop()
        self.log = EventLog(self.loop, n_kept=RECORDS_KEPT)
        self.preview = Latest(self.loop)
        self.settings = Settings()
        self.video: Video | None = None
        self.live: str | None = None  # "webcam" or "url"
        self.spec: SourceSpec | None = None  # of the address
        self.timeline = Timeline()
        self.run: Run | None = None
        self.wish: Wish | None = None
        self.talk: Talk | None = None
        self.render = None  # demo/web/takeaway.py
        self.n_runs = self.n_connected = 0
        self.left_s = time.monotonic()
        self.lock = asyncio.Lock()  # around what starts and stops runs

    def tell(self, kind: str, **fields) -> None:
        """Tell the page."""
        self.log.append({"type": kind, **fields})

    # what is watched

    async def open(self, video: Video | None, live: str | None = None, spec: SourceSpec | None = None) -> None:
        """Choose a video, or something live; whatever was watched before is over."""
        await self.stop()
        self._end_talk()
        if self.render is not None:
            self.render.remove()
            self.render = None
        previous, self.video = self.video, video
        self.live, self.spec, self.timeline = live, spec, Timeline()
        if previous is not None and (video is None or previous.id != video.id):
            self.room.forget_video(self, previous)
        name = spec.name if spec else live
        self.tell("opened", video=video and video.record(), live=live, name=name)

    def configure(self, settings: Settings) -> bool:
        """Take the viewer's choices; True where the commentary has to start anew for them."""
        changed = settings != self.settings
        self.settings = settings
        return changed and self.run is not None

    # the player

    async def play(self, time_s: float, rate: float) -> None:
        """The player runs from here on."""
        self._require_something()
        player = self.run and self.run.player
        if player and abs(player.now() - time_s) <= JUMP_S:
            player.play(time_s, self.followed(rate))
            return
        await self.room.admit(self, Wish(time_s, True, self.followed(rate), "seek" if player else "play"))

    async def seek(self, time_s: float) -> None:
        """The player was moved: the commentary starts anew there."""
        if self.run is not None and self.run.player is not None:
            await self.room.admit(self, Wish(time_s, self.run.player.playing, self.run.player.rate, "seek"))
        elif self.wish is not None:
            self.wish.time_s = time_s

    async def report(self, time_s: float) -> None:
        """The player stands here now."""
        player = self.run and self.run.player
        if not player:
            return
        if player.playing and abs(player.now() - time_s) > JUMP_S + FASTEST:
            await self.seek(time_s)
        else:
            player.report(time_s)

    def pause(self, time_s: float) -> None:
        """The player stands still; a live source is not watched any more."""
        if self.wish is not None:
            self.room.leave(self)
        player = self.run and self.run.player
        if player:
            # Where it was moved, that is said too: frames on the way there were never shown.
            player.pause(time_s if abs(time_s - player.now()) <= JUMP_S else None)
        elif self.run is not None:
            self.run.stop()

    def set_rate(self, rate: float) -> None:
        """The player has another speed."""
        if self.run is not None and self.run.player is not None:
            self.run.player.set_rate(self.followed(rate))

    def followed(self, rate: float) -> float:
        """The speed that the commentary follows; another one is said to be refused."""
        kept = min(max(rate, SLOWEST), FASTEST)
        if kept != rate:
            self.tell("rate", rate=kept, message=f"Speeds from {SLOWEST:g}× to {FASTEST:g}× can be commented.")
        return kept

    def finish(self) -> None:
        """The player has reached the video's end."""
        if self.run is not None and self.run.player is not None:
            self.run.player.end()

    def idle_s(self) -> float:
        """For how long a commentary has had nothing to comment: its player stands, or its webcam sends nothing."""
        run = self.run
        if run is None or (run.player and run.player.playing) or self.live == "url":
            return 0.0
        return time.monotonic() - run.player.moved_s if run.player else run.idle_s()

    async def push(self, jpeg: bytes, time_s: float) -> None:
        """A picture of the webcam."""
        if self.run is not None and self.live == "webcam":
            await self.run.push(jpeg, time_s)

    # runs

    async def begin(self) -> None:
        """Start a commentary as wished. Raises EngineFull where the model has no time for it."""
        async with self.lock:
            wish = self.wish
            if wish is None:
                return
            previous, self.run = self.run, None
            unanswered = previous.unanswered() if previous else []
            await self._stop(previous)
            run = make_run(self.n_runs + 1, self.settings.query, self.settings.limits(self.room.checkpoint), self._hear)
            start_s = self._start_s(wish.time_s)
            run.stream = await asyncio.to_thread(
                self.room.engine.open, run.hear, self.settings.stream_options(), realtime=True
            )
            self.n_runs, self.run, self.wish = run.number, run, None
            if self.live:
                self.timeline = Timeline()
            self.tell("started", run=run.number, start_s=start_s, why=wish.why, live=bool(self.live))
            self._watch(run, wish, start_s)
            for _, question in unanswered:
                await self._ask(run, question)

    def _watch(self, run: Run, wish: Wish, start_s: float) -> None:
        limits = self.settings.limits(self.room.checkpoint)
        if self.live == "webcam":
            return
        if self.spec is not None:
            run.source = open_source(self.spec, limits=limits)
            self.room.engine.watch(run.stream, Preview(run.source, self.preview.put))
            return
        path = str(self.video.path)
        run.shown_path = (path, self.video.name)
        run.source = open_source(SourceSpec("file", path, self.video.name), limits=limits, start_s=start_s)
        run.player = Player(wish.time_s, self.room.js_monitor)
        if wish.playing:
            run.player.play(wish.time_s, wish.rate)
        run.player.rate = wish.rate
        self.room.engine.watch(run.stream, run.source, run.player)

    def _start_s(self, time_s: float) -> float:
        """The grid time at which a commentary from here begins. Raises Refusal where nothing is left of the video."""
        if self.video is None:
            return 0.0
        start_s = math.floor(max(0.0, time_s) * FPS) / FPS
        if start_s >= self.video.duration_s - 1 / FPS:
            raise Refusal(422, "the video ends here", next_step="go back to comment an earlier part")
        return start_s

    async def stop(self) -> None:
        """End the commentary and give its place up."""
        async with self.lock:
            run, self.run = self.run, None
            await self._stop(run)
        self.room.leave(self)

    async def _stop(self, run: Run | None) -> None:
        if run is None:
            return
        await asyncio.to_thread(run.stop)
        if not await run.log.until_ended(STOP_S):
            log.warning("a commentary did not end within %g s", STOP_S)

    # what the engine says

    def _hear(self, run: Run, record: dict) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._take, run, record)

    def _take(self, run: Run, record: dict) -> None:
        kind, current = record["type"], run is self.run
        if kind == "step" and current:
            self._take_step(run, record)
        elif kind in ("piece", "answer"):
            question = {"id": f"{run.number}.{record['id']}", "question": record["question"], "text": record["text"]}
            if kind == "answer":
                run.answered.add(record["id"])
                self.timeline.add_answer(run.asked[record["id"] - 1][0], record["question"], record["text"])
                question["seconds"] = record["seconds"]
            self.tell(kind, **question)
        elif kind == "error" and current:
            self.tell("error", message=record["message"])
        elif kind == "end" and current:
            self.run = None
            self.room.leave(self)
            totals = {name: record[name] for name in ("reason", "n_steps", "n_words")}
            self.tell("finished", run=run.number, **totals)

    def _take_step(self, run: Run, record: dict) -> None:
        self.timeline.add_step(record["start_s"], record["end_s"], record["text"])
        self.tell("step", run=run.number, **{name: record[name] for name in record if name != "type"})
        verdict = run.pace.judge(record["lag_s"], record["n_dropped"])
        if verdict:
            quality = self.settings.quality if has_qualities(self.room.checkpoint) else None
            rate = run.player.rate if run.player else 1.0
            self.tell("late", **run.pace.words(rate, quality, self.room.n_running))
        elif verdict is False:
            self.tell("in_time")

    def tell_load(self, engine_stats: dict) -> None:
        """Tell the page what its commentary costs, and where the server's clock stands."""
        run = self.run
        if run is None or run.stream is None:
            return
        record = run.stream.record()
        self.tell(
            "load", load=engine_stats["load"], n_viewers=self.room.n_running, n_waiting=record["n_waiting"],
            n_context=record["n_context"], cache_bytes=record["cache_bytes"], n_tokens=record["n_tokens"],
            n_dropped=record["n_dropped"] + (run.source.n_dropped if run.source else 0), lag_s=record["lag_s"],
            clock_s=run.player.now() if run.player else None, playing=bool(run.player and run.player.playing),
        )  # fmt: skip

    # questions

    async def ask(self, question: str, about: str) -> None:
        """Answer a question about the moment, on a fork of the commentary, or about the whole video."""
        if about == "moment" and self.run is not None:
            await self._ask(self.run, question)
            return
        if self.video is None:
            raise Refusal(409, "nothing is being commented", next_step="start the commentary, then ask again")
        if about == "moment":
            self.tell("note", message="No commentary is running, so this answer is about the whole video.")
        await self._ask_whole(question)

    async def _ask(self, run: Run, question: str) -> None:
        asked_s = run.player.now() if run.player else run.marks[-1].end_s
        run.asked.append((asked_s, question))
        number = f"{run.number}.{len(run.asked)}"
        self.tell("asked", id=number, question=question, asked_s=round(asked_s, 1), about="moment")
        try:
            await run.ask(question)
        except (Refusal, UserError):
            run.asked.pop()
            raise

    async def _ask_whole(self, question: str) -> None:
        if self.talk is None or self.talk.is_full:
            self._end_talk()
            self.room.check_talks()
            self.talk = Talk(self.room.engine, self.video, self._hear_talk)
            self.tell("note", message="Looking at the whole video …")
        talk, number = self.talk, len(self.talk.asked) + 1
        self.tell("asked", id=f"whole{id(talk)}.{number}", question=question, about="whole")
        await asyncio.to_thread(talk.ask, question)

    def _hear_talk(self, talk: Talk, record: dict) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._take_talk, talk, record)

    def _take_talk(self, talk: Talk, record: dict) -> None:
        if record["type"] in ("piece", "answer"):
            said = {name: record[name] for name in ("question", "text", "seconds") if name in record}
            self.tell(record["type"], id=f"whole{id(talk)}.{record['id']}", **said)
            if record["type"] == "answer":
                talk.n_answered += 1
                if talk is self.talk:
                    self.timeline.add_answer(talk.video.duration_s, record["question"], record["text"])
        elif record["type"] == "error" and talk is self.talk:
            self.tell("error", message=record["message"].replace(str(talk.video.path), talk.video.name))

    def _end_talk(self) -> None:
        talk, self.talk = self.talk, None
        if talk is not None:
            talk.close()

    # ends

    async def close(self) -> None:
        """Stop everything that costs the machine something; what was said is kept for a while."""
        await self.stop()
        self._end_talk()
        if self.render is not None:
            self.render.cancel()

    def commentary(self):
        """All that was said, as demo/render takes it."""
        from demo.render.commentary import Commentary

        name = self.video.name if self.video else self.spec.name if self.spec else self.live or ""
        return Commentary(
            steps=list(self.timeline.steps), questions=list(self.timeline.questions),
            query=self.settings.query or DEFAULT_QUERY, model=self.room.model_name, video=name,
            duration_s=self.video.duration_s if self.video else None,
        )  # fmt: skip

    def _require_something(self) -> None:
        if self.video is None and not self.live:
            raise Refusal(409, "no video is open", next_step="choose one first")
