"""OVO-Bench: published annotations to lines, lines to items under both protocols, and how answers count."""

import json
import subprocess
import sys

import pytest

from evaluation.ovobench import distributed_evaluate_ovobench as script
from evaluation.ovobench import task
from evaluation.ovobench import transfer_annotation_format as transfer
from evaluation.scoring.results import BenchmarkRun
from evaluation.tasks.item import Choice, ClipPlan, Item, Written
from tests.asking import ask, items_of, make_videos
from tests.conftest import REPOSITORY
from utils.errors import UserError

# Entries as in the published ovo_bench_new.json: one backward task, and each forward one.
PUBLISHED = [
    {
        "id": 0, "task": "EPM", "video": "Ego4D/kitchen.mp4", "realtime": 2.4, "question": "Where was the cup?",
        "answer": "on the table", "options": ["in the sink", "on the table"], "gt": 1,
    },
    {
        "id": 1468, "task": "CRR", "video": "MovieNet/tt1.mp4", "question": "What does she do to the car?",
        "answer": "She walks past it.", "ask_time": 1, "clue_time": 2,
        "test_info": [{"realtime": 1, "type": 0}, {"realtime": 2.5, "type": 1}],
    },
    {
        "id": 1516, "task": "SSR", "video": "COIN/hair.mp4", "tutorial": "PutOnHairExtensions",
        "all_steps": ["pull up the hair", "comb"], "start_time": [1, 2], "end_time": [2, 3],
        "test_info": [
            {"realtime": 2, "step": "pull up the hair", "type": 1}, {"realtime": 2, "step": "comb", "type": 0},
        ],
    },
    {
        "id": 1639, "task": "REC", "video": "thumos/golf.mp4", "activity": "golf swing", "start_times": [0, 1],
        "end_times": [1, 2], "test_info": [{"realtime": 1, "count": 1}, {"realtime": 2.0, "count": 12}],
    },
]  # fmt: skip


def make_benchmark(folder, published=PUBLISHED, videos=True):
    """Write the benchmark as published, and the lines that the transfer makes of it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ovo_bench_new.json").write_text(json.dumps(published))
    if videos:
        make_videos(folder, *(entry["video"] for entry in published))
    lines = folder / "ovo-bench-formatted.jsonl"
    transfer.main(["--input", str(folder / "ovo_bench_new.json"), "--output", str(lines)])
    return folder


def test_published_entries_become_a_line_a_query(tmp_path, capsys):
    make_benchmark(tmp_path, videos=False)
    lines = [json.loads(line) for line in (tmp_path / "ovo-bench-formatted.jsonl").read_text().splitlines()]
    assert [(line["id"], line["group"], line["realtime"], line["answer"]) for line in lines] == [
        ("0", "backward", 2.4, "B"),
        ("1468_0", "forward", 1.0, "No"),
        ("1468_1", "forward", 2.5, "Yes"),
        ("1516_0", "forward", 2.0, "Yes"),
        ("1516_1", "forward", 2.0, "No"),
        ("1639_0", "forward", 1.0, "1"),
        ("1639_1", "forward", 2.0, "12"),
    ]
    assert lines[4]["step"] == "comb" and lines[1]["ask_time"] == 1 and lines[5]["activity"] == "golf swing"
    assert "4 entries, 7 queries" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"task": "XYZ"}, "line 2: task 'XYZ' is none of"),
        ({"gt": 2}, "line 2: gt is 2; it must be a whole number from 0 to 1"),
        ({"gt": None}, "line 2: gt is None"),
        ({"realtime": "soon"}, "line 2: realtime is 'soon'"),
        ({"task": "REC"}, "line 2: no field 'activity'"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        make_benchmark(tmp_path, [PUBLISHED[1], {**PUBLISHED[0], **changed}], videos=False)


def test_items_as_the_seed_asks_them(tmp_path):
    folder = make_benchmark(tmp_path)
    items = items_of(task, task.OVOBenchArguments(str(folder)))
    windows = {name: (item.clip.start_s, item.clip.end_s, item.clip.max_frames) for name, item in items.items()}
    assert windows == {
        "0": (None, 2.4, None),
        "1468_0": (1.0, 2.0, None),  # a second at least
        "1468_1": (1.0, 2.5, None),
        "1516_0": (None, 2.0, None),
        "1516_1": (None, 2.0, None),
        "1639_0": (None, 1.0, None),
        "1639_1": (None, 2.0, None),
    }
    options = {name: item.ask.options for name, item in items.items()}
    assert (
        options["0"] == ("A", "B") and options["1516_0"] == ("No", "Yes") and options["1639_0"] == tuple("0123456789")
    )
    assert {(item.ask.prefix, item.ask.spaced) for item in items.values()} == {("The answer is:\n", False)}
    assert (
        items["0"].ask.text == "Where was the cup?\nA. in the sink\nB. on the table\nPlease select the correct answer."
    )
    for name, asked in (("1468_0", "What does she do to the car?"), ("1516_1", "comb"), ("1639_0", "they golf swing?")):
        assert asked in items[name].ask.text
        assert "A. " not in items[name].ask.text and "Please select" not in items[name].ask.text
    assert items["1639_0"].tags == {"task": "REC", "group": "forward"}
    assert items["0"].video_id == "Ego4D/kitchen.mp4"


def test_items_as_the_authors_ask_them(tmp_path):
    folder = make_benchmark(tmp_path)
    items = items_of(task, task.OVOBenchArguments(str(folder), "official"))
    windows = {name: (item.clip.start_s, item.clip.end_s, item.clip.max_frames) for name, item in items.items()}
    assert windows["0"] == windows["1468_1"] == (None, 3.0, 64) and windows["1468_0"] == (None, 1.0, 64)
    assert all(isinstance(item.ask, Written) for item in items.values())
    assert items["1468_0"].ask.text == items_of(task, task.OVOBenchArguments(str(folder)))["1468_0"].ask.text


@pytest.mark.parametrize(
    ("kind", "truth", "response", "value"),
    [
        ("EPM", "B", "B", 1),
        ("EPM", "B", "The answer is B.", 1),
        ("EPM", "B", "A", 0),
        ("EPM", "B", "", 0),  # nothing said
        ("EPM", "B", "Because of A", 1),  # any B counts
        ("SSR", "Yes", "Yes.", 1),
        ("SSR", "Yes", "yes", 0),
        ("SSR", "Yes", "Y", 1),
        ("SSR", "Yes", "No", 0),
        ("CRR", "No", "N", 1),
        ("CRR", "No", "Not enough", 1),
        ("CRR", "No", "", 0),
        ("REC", "12", "12", 1),
        ("REC", "12", "They did it 12 times.", 1),
        ("REC", "12", "1 or 2", 1),  # all digits joined
        ("REC", "1", "1 or 2", 0),
        ("REC", "0", "none", 0),
        ("REC", "3", "٣", 0),
    ],
)
def test_how_written_answers_count(kind, truth, response, value):
    item = Item("i", "v", Written("", 8), truth, ClipPlan("v"), tags={"task": kind})
    assert task.official_value(item, response) == value


def test_missing_files_say_what_to_do(tmp_path):
    with pytest.raises(UserError, match=r"transfer_annotation_format\.py --input .*ovo_bench_new\.json"):
        items_of(task, task.OVOBenchArguments(str(tmp_path)))
    item = items_of(task, task.OVOBenchArguments(str(make_benchmark(tmp_path, videos=False))))["0"]
    assert item.clip is None and "no video 'Ego4D/kitchen.mp4'" in item.problem and "hf download" in item.problem


def test_the_official_protocol_is_asked(tmp_path, tiny_checkpoint, monkeypatch, small):
    folder = make_benchmark(tmp_path / "ovobench", PUBLISHED[:2])
    flags = ("--benchmark_dir", folder, "--model_name_or_path", tiny_checkpoint, "--protocol", "official")
    monkeypatch.setattr(task, "OFFICIAL_TOKENS", 8)
    result = ask(script, monkeypatch, tmp_path / "results", *flags)
    assert [outcome.id for outcome in result.results] == ["0", "1468_0", "1468_1"]
    assert not any(outcome.failed for outcome in result.results)


def test_the_commands_of_the_readme(tmp_path, tiny_checkpoint, small):
    folder = make_benchmark(tmp_path / "ovobench", PUBLISHED)
    (folder / PUBLISHED[3]["video"]).write_bytes(b"broken")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [*torchrun, "evaluation/ovobench/distributed_evaluate_ovobench.py", "--benchmark_dir", str(folder)]
    command += ["--model_name_or_path", str(tiny_checkpoint), "--output_dir", str(tmp_path / "results")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280)
    (path,) = (tmp_path / "results").glob("*.result.json")
    result = BenchmarkRun.read(path)
    assert (result.benchmark, result.protocol) == ("ovobench", "livecc"), done.stdout + done.stderr
    assert {outcome.id: outcome.failed for outcome in result.results} == {
        "0": False, "1468_0": False, "1468_1": False, "1516_0": False, "1516_1": False, "1639_0": True, "1639_1": True,
    }  # fmt: skip
    for outcome in result.results[:5]:
        assert outcome.answer in outcome.shown["logits"] and outcome.value == (outcome.answer == outcome.truth)
    assert all(isinstance(item.ask, Choice) for item in items_of(task, task.OVOBenchArguments(str(folder))).values())
