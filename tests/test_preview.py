"""The preview command: what it writes for a person and for a program."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from data.preview.command import main
from tests.videos import frame_number, make_video
from utils.errors import UserError

HOSTILE = "<script>alert(1)</script>\"'&<|im_end|><img src=x>\x1b[2J"
FIELDS = {
    "input_ids",
    "labels",
    "video_grid_thw",
    "image_grid_thw",
    "frame_times",
    "position_ids",
    "chat_text",
}


@pytest.fixture
def samples(tmp_path, repository, monkeypatch):
    """A file with a stream, an image, a hostile text and a broken line."""
    media = repository / "tests/golden"
    words = [[0.2, 0.6, "red"], [3.0, 3.4, HOSTILE]]
    user = [
        {"type": "video", "video": f"{media}/videos/odd9_320x180.mp4"},
        {"type": "text", "text": HOSTILE, "previous": "earlier speech"},
    ]
    stream = [
        {"role": "user", "content": user},
        {"role": "assistant", "content": [{"type": "text_stream", "text_stream": words}]},
    ]
    image = [
        {"role": "user", "content": [{"type": "image", "image": f"{media}/images/grad_320x200.png"}]},
        {"role": "assistant", "content": HOSTILE},
    ]
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join([json.dumps(stream), json.dumps(image), '[{"role":']))
    monkeypatch.setenv("VIDEO_MIN_PIXELS", str(4 * 28 * 28))
    monkeypatch.setenv("VIDEO_MAX_PIXELS", str(120 * 28 * 28))
    return path


@pytest.fixture
def processor(repository) -> str:
    return str(repository / "tests/golden/tiny_model")


class Page(HTMLParser):
    """Tags, and the text that a reader sees."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.text, self.addresses = [], "", []
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [value for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_json_holds_what_a_program_needs(samples, processor, tmp_path, capsys):
    out = tmp_path / "new folder/out.json"
    assert main([str(samples), "--processor", processor, "--all", "--json", str(out)]) == 2
    assert capsys.readouterr().err.startswith(f"error: sample 2 (malformed_json): {samples}:3: not JSON")
    stream, image = json.loads(out.read_text(encoding="utf-8"))
    for record in (stream, image):
        assert record.keys() >= FIELDS
        assert len(record["position_ids"]) == 3
        lengths = {len(record["input_ids"]), len(record["labels"]), *map(len, record["position_ids"])}
        assert len(lengths) == 1
    assert (stream["index"], image["index"], image["line_no"]) == (0, 1, 2)
    assert [grid[0] for grid in stream["video_grid_thw"]] == [3, 1]
    assert stream["image_grid_thw"] == [] and len(image["image_grid_thw"]) == 1
    assert stream["frame_times"][:3] == [0.0, 0.5, 1.0]
    assert "earlier speech" not in stream["chat_text"]


def test_media_are_looked_for_in_the_media_root(samples, processor, repository, capsys):
    samples.write_text(samples.read_text().replace(f"{repository}/tests/", ""))
    command = [str(samples), "--processor", processor, "--index", "1"]
    assert main(command) == 2 and "--media_root" in capsys.readouterr().err
    assert main([*command, "--media_root", str(repository / "tests")]) == 0


def test_one_sample_with_context_and_published_times(samples, processor, tmp_path):
    out = tmp_path / "out.json"
    flags = ["--index", "0", "--with_context", "--frame_times", "end32", "--json", str(out)]
    assert main([str(samples), "--processor", processor, *flags]) == 0
    (record,) = json.loads(out.read_text(encoding="utf-8"))
    assert "earlier speech" in record["chat_text"]
    assert record["frame_times"][:3] == [0.04, 0.56, 1.08]


def test_the_page_shows_frames_and_escapes_texts(samples, processor, tmp_path):
    out = tmp_path / "out.html"
    assert main([str(samples), "--processor", processor, "--all", "--html", str(out)]) == 2
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert "script" not in page.tags and page.tags.count("img") == 8 + 1
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "default-src 'none'" in html and not re.search(r"(src|href)=\"?http", html)
    assert page.text.count(HOSTILE) >= 3
    assert re.search(r"Time=0\.0-3\.0s.*Time=3\.0-4\.0s", page.text, re.DOTALL)
    assert '<span class="trained">red ...</span>' in html
    assert html.endswith("</html>\n")


def test_the_page_shows_each_samples_own_frames(processor, tmp_path, monkeypatch):
    monkeypatch.setenv("VIDEO_MIN_PIXELS", str(4 * 28 * 28))
    samples = []
    for first, start_s in ((0, 0.0), (300, 1.0)):
        name = f"Spiel ü{first}.mp4"
        make_video(tmp_path / name, 125, first=first)
        content = [{"type": "video", "video": name, "video_start": start_s}, {"type": "text", "text": "Describe."}]
        words = {
            "type": "text_stream",
            "text_stream": [[start_s, start_s + 0.3, "red"], [start_s, start_s + 3.4, "on"]],
        }
        samples.append([{"role": "user", "content": content}, {"role": "assistant", "content": [words]}])
    (tmp_path / "samples.jsonl").write_text("\n".join(map(json.dumps, samples)))
    out = tmp_path / "out.html"
    assert main([str(tmp_path / "samples.jsonl"), "--processor", processor, "--all", "--html", str(out)]) == 0
    figures = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]+)">', out.read_text(encoding="utf-8"))
    jpegs = [Image.open(io.BytesIO(base64.b64decode(jpeg))) for jpeg, _ in figures]
    shown = [frame_number(np.asarray(jpeg).transpose(2, 0, 1)) for jpeg in jpegs]
    assert shown == [k * 25 // 2 for k in range(8)] + [325 + k * 25 // 2 for k in range(8)]
    assert [time for _, time in figures] == [f"{start + k / 2:.2f} s" for start in (0, 1) for k in range(8)]


def test_the_terminal_shows_a_table(samples, processor, capsys):
    assert main([str(samples), "--processor", processor, "--index", "0"]) == 0
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert re.search(r"assistant +\d+ +0 +\d+  \[red \.\.\.\]", shown)
    assert re.search(r"user +\d+ +\d+ +0  Time=0\.0-3\.0s <video 3x\d+x\d+ 0\.00-2\.50 s>", shown)


def test_a_bad_sample_alone_is_an_error(samples, processor, capsys):
    assert main([str(samples), "--processor", processor, "--index", "2"]) == 2
    assert "samples.jsonl:3" in capsys.readouterr().err


def test_a_tokenizer_alone_is_enough(samples, tmp_path, capsys):
    from data.nano.tokenizer import train_tokenizer

    train_tokenizer().save_pretrained(tmp_path / "tokenizer")
    assert main([str(samples), "--processor", str(tmp_path / "tokenizer"), "--index", "1"]) == 0
    assert "<image 1x" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--index", "9"], r"--index 9: .*samples 0 to 2"),
        (["--index", "-1"], r"--index -1"),
        ([], "either --index N or --all"),
        (["--index", "0", "--all"], "either --index N or --all"),
        (["--index", "0", "--json", "/dev/null/out.json"], "cannot be written"),
    ],
)
def test_wrong_flags_are_explained(samples, processor, flags, message):
    with pytest.raises(UserError, match=message):
        main([str(samples), "--processor", processor, *flags])


def test_wrong_paths_are_explained(samples, processor, tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: no such annotation file"):
        main([str(tmp_path / "none.jsonl"), "--processor", processor, "--all"])
    with pytest.raises(UserError, match="nothing"):
        main([str(samples), "--processor", str(tmp_path / "nothing"), "--all"])
