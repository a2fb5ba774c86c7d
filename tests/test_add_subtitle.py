"""The command that adds the subtitles of a folder to VideoMME's lines."""

import json

import pytest

from evaluation.videomme import add_subtitle
from tests.asking import write_lines
from utils.errors import UserError

SRT = "1\n00:00:00,000 --> 00:00:02,000\n<i>[Music]</i> and now\n\n2\n00:00:02,000 --> 00:00:04,000\nthe news\nat 6\n"


def prepare(folder, *video_ids, subtitled=("one",)):
    """Lines about these videos, and .srt files for some; returns the command's flags."""
    rows = [{"videoID": name, "question_id": f"{name}-{i}", "question": "Café?"} for name in video_ids for i in (1, 2)]
    path = write_lines(folder / "videomme.jsonl", rows)
    (folder / "subtitle").mkdir()
    for name in subtitled:
        (folder / "subtitle" / f"{name}.srt").write_text(SRT.replace("news", f"news of {name}"), encoding="utf-8")
    output = folder / "with.jsonl"
    return ["--benchmark_path", str(path), "--subtitle_dir", str(folder / "subtitle"), "--output", str(output)], output


def test_lines_get_the_words_of_their_video(tmp_path, capsys):
    flags, output = prepare(tmp_path, "one", "silent", "zweites-Ü", subtitled=("one", "zweites-Ü"))
    add_subtitle.main(flags)
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [(row["question_id"], row["subtitles"]) for row in rows] == [
        ("one-1", "[Music] and now the news of one at 6"),
        ("one-2", "[Music] and now the news of one at 6"),
        ("silent-1", ""),
        ("silent-2", ""),
        ("zweites-Ü-1", "[Music] and now the news of zweites-Ü at 6"),
        ("zweites-Ü-2", "[Music] and now the news of zweites-Ü at 6"),
    ]
    assert rows[0]["question"] == "Café?"
    said = capsys.readouterr().out
    assert "6 lines of 3 videos" in said and "1 videos have no .srt and count as silent: silent" in said


def test_the_benchmark_file_itself_may_be_replaced(tmp_path):
    flags, _ = prepare(tmp_path, "one")
    add_subtitle.main([*flags[:-1], flags[1]])
    assert all("subtitles" in json.loads(line) for line in (tmp_path / "videomme.jsonl").read_text().splitlines())


@pytest.mark.parametrize(
    ("videos", "subtitled", "more", "message"),
    [
        (["one", "two"], ["one"], ["--silent", "False"], r"no \.srt for 1 of 2 videos \(two\); get .* hf download"),
        (["one", "two"], [], [], r"no \.srt for 2 of 2 videos"),  # another folder's subtitles
        (["../one"], ["one"], [], "leads out of"),
    ],
)
def test_missing_subtitles(tmp_path, videos, subtitled, more, message):
    flags, output = prepare(tmp_path, *videos, subtitled=subtitled)
    with pytest.raises(UserError, match=message):
        add_subtitle.main([*flags, *more])
    assert not output.exists()


def test_no_such_folder(tmp_path):
    flags, _ = prepare(tmp_path, "one")
    with pytest.raises(UserError, match="gone: no such folder"):
        add_subtitle.main([*flags, "--subtitle_dir", str(tmp_path / "gone")])
