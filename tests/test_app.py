"""demo/app.py end to end: the page in a real Chromium, the nano model, real time."""

import itertools
import json
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import av
import pysubs2
import pytest

from data.samples.words import STEP_FRAMES
from demo.arguments import NANO_CHECKPOINT, NANO_MATCHES
from dev.bench.page_browser import CHROMIUM, NO_CHROMIUM, Tab, open_browser
from models.load import load_checkpoint
from tests.browser import serving_page
from tests.waiting import until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=NO_CHROMIUM)

# What the captions show at some seconds of a video; steps said anew; and when they are cleared.
CAPTIONS = """async () => {
    const { Captions } = await import("/live/static/captions.js");
    const place = document.createElement("div"), captions = new Captions(place);
    const say = (start_s, end_s, text) => captions.add({ start_s, end_s, text });
    const shown = (...seconds) => seconds.map((s) => { captions.show(s); return place.textContent; });
    say(0, 3, "kick off"), say(3, 4, "a pass"), say(20, 21, "goal");
    const first = shown(2.5, 3.5, 8.5, 12, 19.5, 20.5);
    say(3, 4, "a throw");
    const anew = shown(3.5);
    captions.clear();
    return [first, anew, shown(3.5, 20.5)];
}"""


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def server(checkpoint):
    with serving_page(checkpoint, idle_minutes=60) as server:
        yield server


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with open_browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def tab(server, browser):
    tab = Tab(browser, server.address)
    yield tab
    tab.page.close()
    assert tab.problems == [] and tab.foreign == []
    until(lambda: not server.registry.seated)  # a closed tab frees its place


def in_order(steps: list[dict]) -> bool:
    return all(before["end_s"] == after["start_s"] for before, after in itertools.pairwise(steps))


def until_all_is_told(tab: Tab, server) -> None:
    """Until the page has all records that there are for it."""
    until(lambda: tab.run("livecc.connection.seq") >= server.registry.tabs[tab.viewer].log.last_seq)


def test_a_caption_stands_from_its_second_on_and_is_replaced(tab):
    first, anew, cleared = tab.run(CAPTIONS)
    assert first == ["kick off", "kick off a pass", "a pass", "", "", "goal"]
    assert anew == ["kick off a throw"] and cleared == ["", ""]


def test_captions_come_while_it_plays_and_a_question_is_answered_on_the_way(tab):
    tab.play()
    tab.until_said(2)
    assert tab.page.is_visible(".captions") and tab.page.inner_text(".captions")
    tab.page.fill("#livecc-chat input", "What is the score?")
    tab.page.click("#livecc-chat form button")
    asked_at = len(tab.steps)
    tab.wait("document.querySelector('.answer:not(.waiting)')")
    tab.until_said(asked_at + 2)
    steps, delays = tab.steps, tab.delays
    assert steps[0]["start_s"] == 0 and in_order(steps)
    assert len(delays) == len(steps)
    assert tab.page.inner_text(".answer").startswith("It is")
    words = tab.page.inner_text("#livecc-transcript .lines")
    assert all(step["text"] in words for step in steps)
    tab.wait("document.querySelector('#livecc-cost .tile strong').textContent.endsWith('s')")


def test_pausing_pauses_and_seeking_starts_anew(tab, server):
    tab.run("livecc.stage.video.playbackRate = 2")
    tab.play()
    tab.until_said(1)
    tab.pause()
    (watching,) = server.registry.seated
    until(lambda: not watching.run.player.playing)
    stream = watching.run.stream
    until(lambda: stream.queue.n_waiting < STEP_FRAMES and not stream.busy)  # what had come is said
    until_all_is_told(tab, server)
    said, n_told = len(tab.steps), tab.run("livecc.connection.seq")
    tab.wait("n => livecc.connection.seq >= n", n_told + 2)  # two reports of the load, one a second
    assert len(tab.steps) == said
    tab.seek(20)
    tab.wait("livecc.stage.badge.textContent === 'Starts anew at 0:20'")
    tab.play()
    tab.wait("livecc.transcript.steps.at(-1).start_s >= 20")
    # A line jumps to its second; what is said anew takes the old words' place.
    tab.page.click("#livecc-transcript .time >> nth=0")
    tab.wait("livecc.stage.video.currentTime < 10 && livecc.transcript.steps[0].run > 1")


def test_speed_is_followed_or_refused_with_a_word(tab, server):
    tab.run("livecc.stage.video.playbackRate = 2")
    tab.play()
    tab.until_said(3)
    (watching,) = server.registry.seated
    assert watching.run.player.rate == 2
    tab.run("livecc.stage.video.playbackRate = 4")
    tab.wait("livecc.stage.video.playbackRate === 2")
    assert "can be commented" in tab.page.inner_text(".toast")


def cut(film: Path, out: Path, seconds: float) -> Path:
    """The beginning of a film, not encoded anew."""
    with av.open(str(film)) as source, av.open(str(out), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        for packet in source.demux(stream):
            if packet.dts is not None and packet.pts * packet.time_base < seconds:
                packet.stream = copy
                target.mux(packet)
    return out


def test_the_end_is_noticed_and_everything_can_be_taken_home(tab, tmp_path):
    tab.page.set_input_files("#livecc-sources input[type=file]", cut(NANO_MATCHES[0], tmp_path / "cut.mp4", 6.0))
    tab.wait("livecc.opened.video.name === 'cut.mp4'")
    tab.play()
    tab.wait("livecc.stage.badge.textContent.startsWith('The end.')")
    assert 5.5 <= tab.steps[-1]["end_s"] <= 6.5
    steps = [step for step in tab.steps if step["text"]]
    files = {}
    for form in ("srt", "vtt", "json", "txt"):
        with tab.page.expect_download() as download:
            tab.page.click(f'a[href$="commentary.{form}"]')
        files[form] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[form])
    words = " ".join(step["text"] for step in steps).split()
    for form in ("srt", "vtt"):
        subtitles = pysubs2.load(str(files[form]))
        assert " ".join(event.plaintext.replace("\n", " ") for event in subtitles).split() == words
    assert [text for _, _, text in json.loads(files["json"].read_text())["steps"]] == [step["text"] for step in steps]
    assert words[0] in files["txt"].read_text()
    tab.page.click("text=Video with captions")
    tab.wait("!livecc.transcript.ready.hidden")
    with tab.page.expect_download() as download:
        tab.page.click("text=Save the video")
    download.value.save_as(tmp_path / "captions.mp4")
    with av.open(str(tmp_path / "captions.mp4")) as film:
        assert abs(film.duration / av.time_base - 6) < 0.5 and film.streams.video[0].height == 336


def test_two_tabs_of_one_video_are_apart_and_closing_frees(tab, server, browser):
    other = Tab(browser, server.address)
    tab.play()
    other.seek(15)
    other.play()
    tab.until_said(2)
    other.until_said(2)
    assert tab.viewer != other.viewer
    assert tab.steps[0]["start_s"] == 0 and other.steps[0]["start_s"] == 15
    assert in_order(tab.steps) and in_order(other.steps)
    n_said = len(tab.steps)
    other.page.close()
    until(lambda: len(server.registry.seated) == 1)
    until(lambda: server.registry.engine.stats()["streams"] == 1)
    tab.until_said(n_said + 2)
    assert other.problems == []


def test_the_video_is_changed(tab, server):
    tab.play()
    tab.until_said(1)
    tab.open_video("example2")
    assert tab.steps == [] and tab.page.inner_text(".captions") == ""
    until(lambda: not server.registry.seated)
    tab.play()
    tab.until_said(1)
    assert tab.steps[0]["start_s"] == 0


def test_choices_and_an_upload_and_no_script_in_them_runs(tab, server):
    script = '<img src=x onerror="window.hit=1">'
    film = {"name": f"{script}.mp4", "mimeType": "video/mp4", "buffer": NANO_MATCHES[1].read_bytes()}
    tab.page.set_input_files("#livecc-sources input[type=file]", film)
    tab.wait("livecc.opened.video.id.length === 32")
    assert "onerror" in tab.run("livecc.opened.video.name")
    tab.page.fill("#livecc-query input", script)
    tab.page.press("#livecc-query input", "Enter")
    until(lambda: any(watching.settings.query == script for watching in server.registry.tabs.values()))
    tab.page.fill("#livecc-chat input", script)
    tab.page.click("#livecc-chat form button")
    tab.wait("document.querySelector('#livecc-chat .question')?.textContent.includes('onerror')")
    assert tab.run("window.hit") is None
    tab.play()
    tab.until_said(1)
    tab.page.click("text=Never quiet")
    tab.wait("livecc.stage.badge.textContent.startsWith('As you wish')")
    (watching,) = server.registry.seated
    assert watching.settings.eagerness == "Never quiet"
    assert watching.run.stream.session.options.silence_threshold_base == 0.95
    path = watching.video.path
    tab.open_video("example1")
    until(lambda: not path.exists())


def test_a_conversation_is_about_the_whole_video(tab, server):
    tab.page.click("text=Whole video")
    asked = ["What is the score?", "Who has the ball?"]
    for question in asked:  # the second one while the first is being answered
        tab.page.click(f"text={question}")
    watching = server.registry.tabs[tab.viewer]
    until(lambda: len(watching.history.questions) == 2)
    until_all_is_told(tab, server)
    answers = {question: answer for _, question, answer in watching.history.questions}
    assert list(answers) == asked and len(set(answers.values())) == 2
    pairs = tab.run("""[...document.querySelectorAll("#livecc-chat .pair")].map((pair) =>
        [pair.querySelector(".question").firstChild.textContent, pair.querySelector(".answer").textContent])""")
    assert [tuple(pair) for pair in pairs] == list(answers.items()), "each answer stands under its question"
    assert "whole video" in tab.page.inner_text("#livecc-chat .meta >> nth=0")


def test_the_webcam_is_commented(tab):
    tab.page.click("text=Webcam")
    tab.wait("livecc.opened.live === 'webcam'")
    tab.page.click("text=Start")
    tab.until_said(2)
    first, second = tab.steps[:2]
    assert first["start_s"] < first["end_s"] <= second["start_s"]
    tab.page.click("text=Stop")
    tab.wait("!livecc.stage.running")


def test_viewers_wait_in_line_and_the_server_may_lead(checkpoint, browser):
    with serving_page(checkpoint, js_monitor=False, max_sessions=1) as server:
        first, second = Tab(browser, server.address), Tab(browser, server.address)
        first.play()
        until(lambda: server.registry.seated)
        second.play()
        second.wait("livecc.stage.banner.textContent.startsWith('You are next in line')")
        assert second.run("livecc.stage.video.paused")
        first.until_said(2)
        # The server's clock leads: a player that is elsewhere is brought back.
        (leader,) = server.registry.seated
        now_s = leader.run.player.now()
        elsewhere = now_s + 12 if now_s < 15 else now_s - 12
        first.run("s => { livecc.stage.ignored = s; livecc.stage.video.currentTime = s }", elsewhere)
        until(lambda: leader.run and abs(first.second - leader.run.player.now()) < 1, patience_s=60)
        assert leader.n_runs == 1
        first.page.close()
        second.until_said(1)
        assert second.steps[0]["start_s"] == 0
        second.page.close()
        assert first.problems == second.problems == []


def test_an_address_that_the_operator_allows_is_watched(checkpoint, browser):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_): ...

    films = ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Quiet(*a, directory=str(NANO_MATCHES[0].parent)))
    Thread(target=films.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{films.server_port}/"
    with serving_page(checkpoint, allow_urls=[base]) as server:
        tab = Tab(browser, server.address)
        tab.page.fill(".address input", "http://127.0.0.1:1/match_1.mp4")
        tab.page.click(".address button")
        tab.wait("document.querySelector('.toast')?.textContent.includes('not on this server')")
        tab.page.fill(".address input", f"{base}match_1.mp4")
        tab.page.click(".address button")
        tab.wait("livecc.opened.live === 'url'")
        tab.page.click("text=Start")
        tab.until_said(1)
        assert tab.run("livecc.stage.picture.width") == 140  # what the model sees is what is shown
        tab.page.close()
        assert tab.problems == []
    films.shutdown()
