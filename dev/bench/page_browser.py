"""The page of demo/app.py in Debian's Chromium: for its tests, its soak run and its pictures."""

import contextlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NO_CHROMIUM = "Debian's chromium is not installed: apt-get install chromium"
PATIENCE_S = 180
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--mute-audio", "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip
# Chromium slows timers of pages that nobody looks at; several tabs are looked at here.
AWAKE = (
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
)


@contextlib.contextmanager
def running_page(*flags: str, log: Path | None = None) -> Iterator[tuple[str, int]]:
    """The command itself on a free port: its address and process id. log: where its errors go."""
    command = [sys.executable, "demo/app.py", "--port", "0", *flags]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w")) if log else subprocess.DEVNULL
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            lines = iter(process.stdout.readline, "")
            address = next((found[1] for line in lines if (found := re.match(r"open (http://\S+)", line))), None)
            if address is None:
                raise RuntimeError(f"{command} ended with status {process.wait()} before it listened")
            yield address, process.pid
        finally:
            process.terminate()
            process.wait(PATIENCE_S)


@contextlib.contextmanager
def open_browser(folder: Path) -> Iterator:
    """A Chromium with a profile of its own in `folder`: a playwright browser context."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch_persistent_context(
            folder, executable_path=CHROMIUM, args=[*FLAGS, *AWAKE], viewport={"width": 1280, "height": 900},
            accept_downloads=True, permissions=["camera"],
        )  # fmt: skip
        try:
            yield browser
        finally:
            browser.close()


class Tab:
    """One tab that shows the page, with what went wrong in it."""

    def __init__(self, browser, address: str):
        self.page = browser.new_page()
        self.problems: list[str] = []
        self.foreign: list[str] = []  # requests to other servers
        self.address = address
        self.page.on("console", lambda message: message.type in ("error", "warning") and self._note(message.text))
        self.page.on("pageerror", lambda error: self._note(str(error)))
        self.page.on("request", lambda request: self._check(request.url))
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.goto(address)
        self.wait("window.livecc?.opened")

    def _note(self, text: str) -> None:
        self.problems.append(text)

    def _check(self, url: str) -> None:
        if not url.startswith((self.address, "data:", "blob:")):
            self.foreign.append(url)

    def wait(self, condition: str, argument=None) -> None:
        """Wait until a JavaScript expression is true."""
        self.page.wait_for_function(condition, arg=argument, polling=100)

    def run(self, script: str, argument=None):
        """The value of a JavaScript expression."""
        return self.page.evaluate(script, argument)

    def play(self) -> None:
        self.run("livecc.stage.video.play().catch(() => null)")  # a viewer in line is paused again

    def pause(self) -> None:
        self.run("livecc.stage.video.pause()")

    def seek(self, seconds: float) -> None:
        self.run("seconds => { livecc.stage.video.currentTime = seconds }", seconds)

    def open_video(self, video_id: str) -> None:
        self.page.click(f'[data-video="{video_id}"]')
        self.wait("id => livecc.opened?.video?.id === id", video_id)

    def until_said(self, n_steps: int) -> None:
        self.wait("n => livecc.transcript.steps.length >= n", n_steps)

    @property
    def steps(self) -> list[dict]:
        return self.run("livecc.transcript.steps")

    @property
    def delays(self) -> list[float]:
        return self.run("livecc.stage.delays")

    @property
    def second(self) -> float:
        return self.run("livecc.stage.video.currentTime")

    @property
    def viewer(self) -> str:
        return self.run("livecc.connection.viewer")


def until(condition, patience_s: float = PATIENCE_S) -> None:
    """Wait until a Python condition is true."""
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
