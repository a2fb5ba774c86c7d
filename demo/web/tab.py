"""Browser tab: what it watches, its commentary, its place in line, and what it is told.

Everything here belongs to the event loop; the engine's records are handed over to it.
"""

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from data.sources.catalogue import open_source
from data.sources.spec import SourceSpec
from data.video.frame_plan import FPS
from demo.live.api_error import ApiError
from demo.live.events import EventLog
from demo.web.conversation import Conversation
from demo.web.history import CommentaryHistory
from demo.web.player import FASTEST, SLOWEST, Player
from demo.web.questions import Questions
from demo.web.run import CommentaryRun, Latest, Preview, make_run
from demo.web.settings import Settings, has_qualities
from demo.web.videos import Video
from models.streaming.options import DEFAULT_QUERY

if TYPE_CHECKING:
    from demo.web.tab_registry import TabRegistry

log = logging.getLogger(__name__)

JUMP_S = 1.5  # a player that is so far from where it was believed to be was moved
RECORDS_KEPT = 512  # for a page that lost its connection: some minutes of them
STOP_S = 5.0  # that a step in progress may take


@dataclass
class PlayRequest:
    """Request to comment from a second on; `playing`: whether the player runs."""

    time_s: float
    playing: bool = True
    rate: float = 1.0
    why: str = "play"


class Tab:
    """One tab of a browser; `registry` gives out the places."""

    def __init__(self, tab_id: str, owner: str, registry: "TabRegistry"):
        self.id, self.owner, self.registry = tab_id, owner, registry
        self.loop = asyncio.get_running_loop()
        self.log = EventLog(self.loop, n_kept=RECORDS_KEPT)
        self.preview = Latest(self.loop)
        self.settings = Settings()
        self.video: Video | None = None
        self.live: str | None = None  # "webcam" or "url"
        self.spec: SourceSpec | None = None  # of the address
        self.history = CommentaryHistory()
        self.run: CommentaryRun | None = None
        self.play_request: PlayRequest | None = None
        self.conversation: Conversation | None = None
        self.render = None  # demo/web/takeaway.py
        self.n_runs = self.n_conversations = self.n_connected = 0
        self.left_s = time.monotonic()
        self.lock = asyncio.Lock()  # around what starts and stops runs

    def tell(self, kind: str, **fields) -> None:
        """Tell the page."""
        self.log.append({"type": kind, **fields})

    # what is watched

    async def open(self, video: Video | None, live: str | None = None, spec: SourceSpec | None = None) -> None:
        """Choose a video, or something live; whatever was watched before is over."""
        await self.stop()
        self._end_conversation()
        if self.render is not None:
            self.render.remove()
            self.render = None
        previous, self.video = self.video, video
        self.live, self.spec, self.history = live, spec, CommentaryHistory()
        if previous is not None and (video is None or previous.id != video.id):
            self.registry.forget_video(self, previous)
        name = spec.name if spec else live
        self.tell("opened", video=video and video.record(), live=live, name=name)

    def configure(self, settings: Settings) -> bool:
        """Take the choices; True where the commentary has to start anew for them."""
        changed = settings != self.settings
        self.settings = settings
        return changed and self.run is not None

    # the player

    async def play(self, time_s: float, rate: float) -> None:
        """Play from `time_s` on."""
        self._require_something()
        player = self.run and self.run.player
        if player and abs(player.now() - time_s) <= JUMP_S:
            player.play(time_s, self.followed(rate))
            return
        await self.registry.admit(self, PlayRequest(time_s, True, self.followed(rate), "seek" if player else "play"))

    async def seek(self, time_s: float) -> None:
        """Move the player: the commentary starts anew there."""
        if self.run is not None and self.run.player is not None:
            await self.registry.admit(self, PlayRequest(time_s, self.run.player.playing, self.run.player.rate, "seek"))
        elif self.play_request is not None:
            self.play_request.time_s = time_s

    async def report(self, time_s: float) -> None:
        """Report the player's position."""
        player = self.run and self.run.player
        if not player:
            return
        if player.playing and abs(player.now() - time_s) > JUMP_S + FASTEST:
            await self.seek(time_s)
        else:
            player.report(time_s)

    def pause(self, time_s: float) -> None:
        """Pause the player; a live source is not watched any more."""
        if self.play_request is not None:
            self.registry.leave(self)
        player = self.run and self.run.player
        if player:
            # Where it was moved, that is said too: frames on the way there were never shown.
            player.pause(time_s if abs(time_s - player.now()) <= JUMP_S else None)
        elif self.run is not None:
            self.run.stop()

    def set_rate(self, rate: float) -> None:
        """Change the player's speed."""
        if self.run is not None and self.run.player is not None:
            self.run.player.set_rate(self.followed(rate))

    def followed(self, rate: float) -> float:
        """Speed that the commentary follows; another one is refused with a word."""
        kept = min(max(rate, SLOWEST), FASTEST)
        if kept != rate:
            self.tell("rate", rate=kept, message=f"Speeds from {SLOWEST:g}× to {FASTEST:g}× can be commented.")
        return kept

    def finish(self) -> None:
        """Report that the player has reached the video's end."""
        if self.run is not None and self.run.player is not None:
            self.run.player.end()

    def idle_s(self) -> float:
        """Seconds for which a commentary has had nothing to comment: its player stands, or its webcam sends nothing."""
        run = self.run
        if run is None or (run.player and run.player.playing) or self.live == "url":
            return 0.0
        return time.monotonic() - run.player.moved_s if run.player else run.idle_s()

    async def push(self, jpeg: bytes, time_s: float) -> None:
        """Take a JPEG of the webcam."""
        if self.run is not None and self.live == "webcam":
            await self.run.push(jpeg, time_s)

    # runs

    async def begin(self) -> None:
        """Start a commentary as requested. Raises EngineFull where the model has no time for it."""
        async with self.lock:
            request = self.play_request
            if request is None:
                return
            previous, self.run = self.run, None
            unanswered = previous.questions.unanswered if previous else []
            await self._stop(previous)
            run = make_run(
                self.n_runs + 1, self.settings.query, self.settings.limits(self.registry.checkpoint), self._hear
            )
            start_s = self._start_s(request.time_s)
            run.stream = await asyncio.to_thread(
                self.registry.engine.open, run.hear, self.settings.stream_options(), realtime=True
            )
            self.n_runs, self.run, self.play_request = run.number, run, None
            if self.live:
                self.history = CommentaryHistory()
            self.tell("started", run=run.number, start_s=start_s, why=request.why, live=bool(self.live))
            self._watch(run, request, start_s)
            for _, question in unanswered:
                await self._ask(run, question)

    def _watch(self, run: CommentaryRun, request: PlayRequest, start_s: float) -> None:
        limits = self.settings.limits(self.registry.checkpoint)
        if self.live == "webcam":
            return
        if self.spec is not None:
            run.source = open_source(self.spec, limits=limits)
            self.registry.engine.watch(run.stream, Preview(run.source, self.preview.put))
            return
        path = str(self.video.path)
        run.shown_path = (path, self.video.name)
        run.source = open_source(SourceSpec("file", path, self.video.name), limits=limits, start_s=start_s)
        run.player = Player(request.time_s, self.registry.js_monitor)
        if request.playing:
            run.player.play(request.time_s, request.rate)
        run.player.rate = request.rate
        self.registry.engine.watch(run.stream, run.source, run.player)

    def _start_s(self, time_s: float) -> float:
        """The grid time at which a commentary from here begins. Raises ApiError where nothing is left of the video."""
        if self.video is None:
            return 0.0
        start_s = math.floor(max(0.0, time_s) * FPS) / FPS
        if start_s >= self.video.duration_s - 1 / FPS:
            raise ApiError(422, "the video ends here", next_step="go back to comment an earlier part")
        return start_s

    async def stop(self) -> None:
        """End the commentary and give its place up."""
        async with self.lock:
            run, self.run = self.run, None
            await self._stop(run)
        self.registry.leave(self)

    async def _stop(self, run: CommentaryRun | None) -> None:
        if run is None:
            return
        await asyncio.to_thread(run.stop)
        if not await run.log.until_ended(STOP_S):
            log.warning("a commentary did not end within %g s", STOP_S)

    # what the engine says

    def _hear(self, run: CommentaryRun, record: dict) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._take, run, record)

    def _take(self, run: CommentaryRun, record: dict) -> None:
        kind, current = record["type"], run is self.run
        if kind == "step" and current:
            self._take_step(run, record)
        elif kind in ("piece", "answer"):
            if current or "unanswered" not in record:  # else the next commentary is asked (begin)
                self._take_answer(run.questions, record)
        elif kind == "error" and current:
            self.tell("error", message=record["message"])
        elif kind == "end" and current:
            self.run = None
            self.registry.leave(self)
            totals = {name: record[name] for name in ("reason", "n_steps", "n_words")}
            self.tell("finished", run=run.number, **totals)

    def _take_step(self, run: CommentaryRun, record: dict) -> None:
        self.history.add_step(record["start_s"], record["end_s"], record["text"])
        self.tell("step", run=run.number, **{name: record[name] for name in record if name != "type"})
        verdict = run.lateness.judge(record["lag_s"], record["n_dropped"])
        if verdict:
            quality = self.settings.quality if has_qualities(self.registry.checkpoint) else None
            rate = run.player.rate if run.player else 1.0
            self.tell("late", **run.lateness.words(rate, quality, self.registry.n_running))
        elif verdict is False:
            self.tell("in_time")

    def tell_load(self, engine_stats: dict) -> None:
        """Tell the page what its commentary costs, and where the server's clock stands."""
        run = self.run
        if run is None or run.stream is None:
            return
        record = run.stream.record()
        self.tell(
            "load", load=engine_stats["load"], n_viewers=self.registry.n_running, n_waiting=record["n_waiting"],
            n_context=record["n_context"], cache_bytes=record["cache_bytes"], n_tokens=record["n_tokens"],
            n_dropped=record["n_dropped"] + (run.source.n_dropped if run.source else 0), lag_s=record["lag_s"],
            clock_s=run.player.now() if run.player else None, playing=bool(run.player and run.player.playing),
        )  # fmt: skip

    # questions

    async def ask(self, question: str, about: str) -> None:
        """Answer a question about the moment, on a fork of the commentary, or about the whole video."""
        async with self.lock:  # so that a commentary which starts anew takes the question along
            if about == "moment" and self.run is not None:
                await self._ask(self.run, question)
                return
        if self.video is None:
            raise ApiError(409, "nothing is being commented", next_step="start the commentary, then ask again")
        if about == "moment":
            self.tell("note", message="No commentary is running, so this answer is about the whole video.")
        await self._ask_whole(question)

    async def _ask(self, run: CommentaryRun, question: str) -> None:
        asked_s = run.player.now() if run.player else run.marks[-1].end_s
        number = await run.ask(question)
        self._tell_asked(run.questions, number, asked_s, question, about="moment", asked_s=round(asked_s, 1))

    async def _ask_whole(self, question: str) -> None:
        if self.conversation is None or self.conversation.is_full:
            self._end_conversation()
            self.registry.check_conversations()
            self.n_conversations += 1
            self.conversation = Conversation(
                self.n_conversations, self.registry.engine, self.video, self._hear_conversation
            )
            self.tell("note", message="Looking at the whole video …")
        conversation = self.conversation
        number = await asyncio.to_thread(conversation.ask, question)
        self._tell_asked(conversation.questions, number, conversation.video.duration_s, question, about="whole")

    def _tell_asked(self, questions: Questions, number: int, at_s: float, question: str, **fields) -> None:
        """Tell the page of a question that the engine has taken, then what was answered meanwhile."""
        early = questions.add(number, at_s, question)
        self.tell("asked", id=questions.page_id(number), question=question, **fields)
        for record in early:
            self._take_answer(questions, record)

    def _take_answer(self, questions: Questions, record: dict) -> None:
        """Pass a piece of an answer or a whole one on, once its question was told."""
        if not questions.take(record):
            return
        said = {name: record[name] for name in ("question", "text", "seconds") if name in record}
        if "unanswered" in record:
            said["text"] = f"({record['unanswered']})"
        self.tell(record["type"], id=questions.page_id(record["id"]), **said)
        if record["type"] == "answer":
            self.history.add_answer(questions.asked[record["id"]][0], record["question"], record["text"])

    def _hear_conversation(self, conversation: Conversation, record: dict) -> None:
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._take_conversation, conversation, record)

    def _take_conversation(self, conversation: Conversation, record: dict) -> None:
        if record["type"] in ("piece", "answer"):
            if conversation.video is self.video:  # else a new one was opened meanwhile
                self._take_answer(conversation.questions, record)
        elif record["type"] == "error" and conversation is self.conversation:
            self.tell("error", message=record["message"].replace(str(conversation.video.path), conversation.video.name))

    def _end_conversation(self) -> None:
        conversation, self.conversation = self.conversation, None
        if conversation is not None:
            conversation.close()

    # ends

    async def close(self) -> None:
        """Stop everything that costs the machine something; what was said is kept for a while."""
        await self.stop()
        self._end_conversation()
        if self.render is not None:
            self.render.cancel()

    def commentary(self):
        """Commentary so far, as demo/render takes it."""
        from demo.render.commentary import FinishedCommentary

        name = self.video.name if self.video else self.spec.name if self.spec else self.live or ""
        return FinishedCommentary(
            steps=list(self.history.steps), questions=list(self.history.questions),
            query=self.settings.query or DEFAULT_QUERY, model=self.registry.model_name, video=name,
            duration_s=self.video.duration_s if self.video else None,
        )  # fmt: skip

    def _require_something(self) -> None:
        if self.video is None and not self.live:
            raise ApiError(409, "no video is open", next_step="choose one first")
