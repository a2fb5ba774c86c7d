"""Pictures of the page and of the terminal from the real thing, for README.md and demo/README.md.

    python dev/bench/screenshot_app.py            writes demo/pictures/*.png

Plays the first match with the nano model, asks two questions on the way, and takes the page in desktop and phone width,
light and dark; then runs demo/cli.py and draws what it prints. Two minutes.
Hardware: two CPU cores and Debian's chromium.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: import from the repository's root
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import html
import io
import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

from PIL import Image

from utils.arguments import parse_arguments
from utils.errors import UserError, run_command

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES, MOST_TOGETHER = 300_000, 1_000_000
SIZES = {"desktop": (1280, 1085), "phone": (390, 1180)}
AT_S = 21.5  # the second of the match that is shown
QUESTION = "What is the score?"
TERMINAL_S, TERMINAL_ASKED_S = 16.0, 9.0
TERMINAL_PAGE = """<body style="margin:0;background:#0b0f14"><pre style="margin:0;padding:18px 22px;width:840px;
white-space:pre-wrap;color:#d6deeb;font:14px/1.5 ui-monospace,'DejaVu Sans Mono',monospace">{}</pre></body>"""
STYLES = {"1": "color:#fff;font-weight:700", "2": "color:#7f8b99"}


@dataclass
class PictureArguments:
    """Where they go."""

    out: str = field(default="demo/pictures", metadata={"help": "folder"})


def main() -> int:
    """Run the command; return its exit status."""
    (arguments,) = parse_arguments(PictureArguments, description=__doc__.split("\n")[0])
    from dev.bench.page_browser import CHROMIUM, NO_CHROMIUM, open_browser, running_page

    if CHROMIUM is None:
        raise UserError(NO_CHROMIUM)
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, open_browser(Path(folder)) as browser:
        with running_page("--js_monitor") as (address, _):
            for width in SIZES:
                take_page(browser, address, width, out)
        page = browser.new_page()
        page.set_viewport_size({"width": 900, "height": 100})
        page.set_content(TERMINAL_PAGE.format(to_html(terminal_output())))
        save(page.locator("pre").screenshot(), out / "terminal.png")
    sizes = {path.name: path.stat().st_size for path in sorted(out.glob("*.png"))}
    for name, n_bytes in sizes.items():
        print(f"{out / name}: {n_bytes / 1000:.0f} KB")
    if max(sizes.values()) > MOST_BYTES or sum(sizes.values()) > MOST_TOGETHER:
        raise UserError(f"{out}: over {MOST_BYTES // 1000} KB each or {MOST_TOGETHER // 1000} KB together")
    return 0


def take_page(browser, address: str, width: str, out: Path) -> None:
    """Play to AT_S, ask on the way, and take the page light and dark."""
    from dev.bench.page_browser import Tab

    tab = Tab(browser, address)
    tab.page.set_viewport_size(dict(zip(("width", "height"), SIZES[width], strict=True)))
    tab.play()
    tab.wait("livecc.stage.video.currentTime > 9")
    tab.page.fill("#livecc-chat input", QUESTION)
    tab.page.click("#livecc-chat form button")
    tab.wait("livecc.stage.video.currentTime > 17")
    tab.run("livecc.chat.ask('Who has the ball?', 'moment')")
    tab.wait(f"livecc.stage.video.currentTime > {AT_S}")
    tab.pause()
    time.sleep(1)
    tab.run("document.activeElement.blur(); scrollTo(0, 0)")
    for theme in ("light", "dark"):
        tab.run("theme => document.body.classList.toggle('dark', theme === 'dark')", theme)
        tab.run("livecc.cost.draw()")
        time.sleep(0.5)
        save(tab.page.screenshot(), out / f"{width}_{theme}.png")
    tab.page.close()


def terminal_output() -> str:
    """What demo/cli.py prints in a terminal while somebody asks something."""
    command = [sys.executable, "demo/cli.py"]
    ours, theirs = os.openpty()
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    printed, started = b"", None
    while b"\x1b[1m00:" not in printed:
        printed += os.read(ours, 65536)
    started = time.monotonic()
    asked = False
    os.set_blocking(ours, False)
    while time.monotonic() - started < TERMINAL_S:
        if not asked and time.monotonic() - started > TERMINAL_ASKED_S:
            process.stdin.write(f"{QUESTION}\n".encode())
            process.stdin.flush()
            asked = True
        try:
            printed += os.read(ours, 65536)
        except BlockingIOError:
            time.sleep(0.1)
    process.kill()
    process.wait()
    os.close(ours)
    text = printed.decode("utf-8", "replace").replace("\r", "").replace(f"{ROOT}/", "")
    return "\x1b[2m$\x1b[0m \x1b[1mpython demo/cli.py\x1b[0m\n" + text


def to_html(printed: str) -> str:
    """Bold and dim text as HTML."""
    pieces, style = [], ""
    for part in re.split(r"(\x1b\[\d*m)", printed.rstrip()):
        if code := re.fullmatch(r"\x1b\[(\d*)m", part):
            style = STYLES.get(code[1], "")
        elif part:
            pieces.append(f'<span style="{style}">{html.escape(part)}</span>')
    return "".join(pieces)


def save(png: bytes, path: Path) -> None:
    """Write a picture with six bits of each colour, which makes a film's noise small and keeps light greys apart."""
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.point(lambda value: value & 0xFC | value >> 6).save(path, optimize=True)


if __name__ == "__main__":
    run_command(main)
