"""Four viewers of the live page in a real Chromium for half an hour: nothing grows, nothing is lost, nothing complains.

    python dev/bench/soak_app.py                  30 minutes
    python dev/bench/soak_app.py --minutes 2      a look

Two viewers watch one long film to its end; two are restless: they watch short matches, ask, jump, change and load the
page again. Prints a line a minute and at the end a table. Hardware: two CPU cores and Debian's chromium. Exit status: 0
where all is well, 1 where something was not.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import itertools
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field

from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

N_VIEWERS = 4
LATE_S = 2.0  # a caption after the end of its step
MOST_GROWTH = 0.10  # of a process from the run's first third to its last
WARM = 1 / 3  # of the run, in which caches fill
QUESTIONS = ("What is the score?", "Who has the ball?", "Where is the ball?")
# What a page knows of itself, after its garbage is collected.
LOOK = """() => ({ ended: livecc.stage.video.ended, missed: livecc.connection.missed, delays: livecc.stage.delays,
steps: livecc.transcript.steps.map(s => [s.run, s.start_s, s.end_s, s.n_dropped]) })"""
COLUMNS = (
    "| | steps | delay p50 | p99 | longest | over 2 s | skipped frames | gaps | missed | asked | page MB | nodes |"
)


@dataclass
class SoakArguments:
    """How long."""

    minutes: float = field(default=30.0, metadata={"help": "minutes"})
    seed: int = field(default=0, metadata={"help": "of what the restless viewers do"})


@dataclass
class Watcher:
    """A tab, and what was seen of it."""

    name: str
    tab: object
    restless: bool
    delays: list[float] = field(default_factory=list)
    n_steps: int = 0
    n_gaps: int = 0  # seconds between two steps of one commentary that nothing was said about
    n_dropped: int = 0  # frames that the server skipped to keep up
    n_missed: int = 0  # records that did not arrive
    n_answers: int = 0
    n_acts: int = 0
    heaps: list[float] = field(default_factory=list)  # MB, each minute
    nodes: list[int] = field(default_factory=list)
    seen: tuple = (0, 0)  # run and end of the latest step that was counted

    def look(self) -> dict:
        """Count what was said since the last look; the page keeps enough of it."""
        state = self.tab.run(LOOK)
        new = [step for step in state["steps"] if (step[0], step[2]) > self.seen]
        new.sort()
        for before, after in itertools.pairwise(([[*self.seen[:1], 0, self.seen[1], 0]] if self.seen[0] else []) + new):
            if before[0] == after[0]:
                self.n_gaps += after[1] != before[2] and not after[3]
        self.n_steps += len(new)
        self.n_dropped += sum(step[3] for step in new)
        self.delays += state["delays"][-len(new) :] if new else []
        if new:
            self.seen = (new[-1][0], new[-1][2])
        self.n_missed = max(self.n_missed, state["missed"])
        return state


def main() -> int:
    """Run the command; return its exit status."""
    (arguments,) = parse_arguments(SoakArguments, description=__doc__.split("\n")[0])
    if not arguments.minutes > 0:
        raise UserError(f"--minutes {arguments.minutes}: must be above 0")
    from dev.bench.page_browser import CHROMIUM, NO_CHROMIUM, open_browser, running_page

    if CHROMIUM is None:
        raise UserError(NO_CHROMIUM)
    with tempfile.TemporaryDirectory() as folder:
        film = make_film(Path(folder) / "film.mp4", arguments.minutes * 60 + 20)
        log = Path(folder) / "log"
        with (
            running_page("--js_monitor", "--examples", str(film), *map(str, matches()), log=log) as (address, pid),
            open_browser(Path(folder) / "profile") as browser,
        ):
            watchers, sizes = soak(browser, address, pid, arguments)
        return report(watchers, sizes, log.read_text(), arguments.minutes)


def matches() -> list[Path]:
    """The shipped matches."""
    from demo.arguments import NANO_MATCHES

    return list(NANO_MATCHES)


def make_film(path: Path, seconds: float) -> Path:
    """The matches one after the other, again and again, without encoding them anew."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as film:
        out, at_s = None, 0.0
        for match in itertools.cycle(matches()):
            with av.open(str(match)) as source:
                stream = source.streams.video[0]
                out = out or film.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is not None:
                        shift = round(at_s / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, out
                        film.mux(packet)
                at_s += float(stream.duration * stream.time_base)
            if at_s >= seconds:
                return path


def soak(browser, address: str, pid: int, arguments: SoakArguments) -> tuple[list[Watcher], list[float]]:
    """Watch for the time asked; returns the watchers and the server's size in MB at each look."""
    import psutil

    from dev.bench.page_browser import Tab

    server, chance = psutil.Process(pid), random.Random(arguments.seed)
    watchers = [Watcher(f"viewer {i + 1}", Tab(browser, address), i >= N_VIEWERS // 2) for i in range(N_VIEWERS)]
    for watcher in watchers:
        if watcher.restless:
            watcher.tab.open_video("example2")
        watcher.tab.play()
    started, sizes, next_look = time.monotonic(), [], 0.0
    while (now := time.monotonic() - started) < arguments.minutes * 60:
        for watcher in watchers:
            if watcher.restless:
                act(watcher, chance)
            watcher.look()
        if now >= next_look:
            next_look = now + 60
            sizes.append(server.memory_info().rss / 2**20)
            for watcher in watchers:
                measure(watcher)
            say_minute(now, watchers, sizes[-1])
        time.sleep(2)
    sizes.append(server.memory_info().rss / 2**20)
    return watchers, sizes


def act(watcher: Watcher, chance: random.Random) -> None:
    """Do what restless people do, now and then."""
    tab, kind = watcher.tab, chance.random()
    state = watcher.look()
    if state["ended"]:
        tab.seek(0)
        tab.play()
    elif kind < 0.10:
        tab.run("question => livecc.chat.ask(question, 'moment')", chance.choice(QUESTIONS))
        watcher.n_answers += 1
    elif kind < 0.14:
        tab.seek(chance.uniform(0, 25))
    elif kind < 0.16:
        tab.run("livecc.stage.video.paused ? livecc.stage.video.play() : livecc.stage.video.pause()")
    elif kind < 0.18:
        tab.open_video(chance.choice(("example2", "example3")))
        tab.play()
    elif kind < 0.19:
        tab.page.reload()
        tab.wait("window.livecc?.opened")
        tab.open_video("example2")
        tab.play()
        watcher.seen = (0, 0)
    else:
        if tab.run("livecc.stage.video.paused"):
            tab.play()
        return
    watcher.n_acts += 1


def measure(watcher: Watcher) -> None:
    """Note the page's size once its garbage is collected."""
    session = watcher.tab.page.context.new_cdp_session(watcher.tab.page)
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")["usedSize"]
    session.detach()
    watcher.heaps.append(used / 2**20)
    watcher.nodes.append(watcher.tab.run("document.getElementsByTagName('*').length"))


def say_minute(now: float, watchers: list[Watcher], size_mb: float) -> None:
    """One line."""
    delays = [delay for watcher in watchers for delay in watcher.delays[-60:]]
    heaps = " ".join(f"{watcher.heaps[-1]:.1f}" for watcher in watchers)
    n_problems = sum(len(watcher.tab.problems) for watcher in watchers)
    middle, longest = (statistics.median(delays), max(delays)) if delays else (0.0, 0.0)
    print(
        f"{now / 60:5.1f} min  server {size_mb:.0f} MB  pages {heaps} MB  steps {sum(w.n_steps for w in watchers)}  "
        f"delay {middle:.2f} s, longest {longest:.2f}  problems {n_problems}", flush=True,
    )  # fmt: skip


def growth(sizes: list[float]) -> float:
    """From the mean of the first third after the warm-up to that of the last third; 0 where there is too little."""
    warm = sizes[int(len(sizes) * WARM) :]
    third = len(warm) // 3
    return statistics.mean(warm[-third:]) / statistics.mean(warm[:third]) - 1 if third else 0.0


def report(watchers: list[Watcher], sizes: list[float], log: str, minutes: float) -> int:
    """Print the table and what is wrong; the exit status."""
    print(f"\n{minutes:g} minutes, server {sizes[0]:.0f} -> {sizes[-1]:.0f} MB (growth {growth(sizes):+.1%})\n")
    print(COLUMNS)
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for w in watchers:
        delays = sorted(w.delays) or [0.0]
        p99 = delays[min(len(delays) - 1, int(0.99 * len(delays)))]
        late = sum(delay > LATE_S for delay in delays)
        name = f"{w.name}{' (restless)' if w.restless else ''}"
        print(
            f"| {name} | {w.n_steps} | {statistics.median(delays):.2f} s | {p99:.2f} s | {delays[-1]:.2f} s | {late} "
            f"| {w.n_dropped} | {w.n_gaps} | {w.n_missed} | {w.n_answers} "
            f"| {w.heaps[0]:.1f} -> {w.heaps[-1]:.1f} | {w.nodes[0]} -> {w.nodes[-1]} |"
        )  # fmt: skip
    wrong = [f"{w.name}: {problem}" for w in watchers for problem in w.tab.problems]
    wrong += [f"{w.name}: {w.n_gaps} gaps, {w.n_missed} records missed" for w in watchers if w.n_gaps or w.n_missed]
    wrong += [f"the server grew by {growth(sizes):.1%}"] if growth(sizes) > MOST_GROWTH else []
    wrong += [f"the server said: {line}" for line in log.splitlines() if "Traceback" in line or "failed" in line]
    print("\n" + ("\n".join(wrong) or "nothing lost, nothing grew, nothing in the consoles"))
    return 1 if wrong else 0


if __name__ == "__main__":
    run_command(main)
