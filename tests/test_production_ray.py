"""Inputs, quality and model stages on Ray: the bytes of the local engine, on one machine's cluster and on two nodes."""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.production.run import RunnerArguments, run_config
from data.production.runner.config import read_run_config
from data.production.runner.progress import RunResult
from tests.conftest import REPOSITORY
from tests.production import CONFIG as TROUBLED
from tests.production import NANO, WORDS, contents, make_videos, measured, places_of, write_config
from tests.videos import make_video

pytestmark = pytest.mark.slow

N_VIDEOS = 6
CONFIG = """
inputs: {{folder_input: {{folders: ["{folder}"]}}}}
stages: [{stages}]
output: {{name: made}}
shard_size: 4
"""
CLIPS = """
  {metadata_filter: {min_height: 1, min_s: 1, min_distinct_words: 3, categories: [], languages: []}},
  {pretrain_to_clips: {min_s: 4, max_s: 8, min_words_per_s: 0.1, max_words_per_s: 10}}
"""
TEXT = f"{CLIPS}, near_duplicates, word_times, {{lm_loss: {{model: {NANO}, min_loss: 0, max_loss: 100}}}}"
PICTURES = f"""{CLIPS}, {{motion_score: {{min_motion: 0}}}},
  {{distributed_lmm4asd: {{model: {NANO}, height: 56, width: 84, frames: 2, threshold: 1.1}}}}, to_conversation"""
TWO_GROUPS = """
inputs: {{jsonl_input: {{paths: ["{videos}"]}}}}
stages:
  - pretrain_to_clips: {{min_s: 10}}
  - tests.production
  - tests.production: {{gpus: 1}}
  - to_conversation
output: {{name: made}}
shard_size: 4
"""
TROUBLE = "  - tests.production\n  - tests.production: {{gpus: 1}}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Videos with captions of all kinds beside them, as yt-dlp leaves them; two of them say the same."""
    folder = tmp_path_factory.mktemp("videos")
    for number in range(N_VIDEOS):
        make_video(folder / f"v{number}.mp4", 80, fps=4)
        (folder / f"v{number}.info.json").write_text(json.dumps({"title": f"Match {number}", "channel": f"c{number}"}))
        said = random.Random(min(number, N_VIDEOS - 2)).choices(WORDS, k=45)
        words = [(round(i * 0.4, 3), word) for i, word in enumerate(said)]
        write = (write_json3, write_srt, write_vtt)[number % 3]
        write(folder / f"v{number}", words)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def write_json3(stem: Path, words: list[tuple[float, str]]) -> None:
    events = [{"tStartMs": at * 1000, "dDurationMs": 400, "segs": [{"utf8": word}]} for at, word in words]
    stem.with_suffix(".en.json3").write_text(json.dumps({"events": events}))


def write_srt(stem: Path, words: list[tuple[float, str]]) -> None:
    cues = [f"{i}\n00:00:{at:06.3f} --> 00:00:{at + 0.4:06.3f}\n{word}\n" for i, (at, word) in enumerate(words)]
    stem.with_suffix(".en.srt").write_text("\n".join(cues).replace(".", ","))


def write_vtt(stem: Path, words: list[tuple[float, str]]) -> None:
    lines = [words[i : i + 5] for i in range(0, len(words), 5)]
    text, before = "WEBVTT\n", " "
    for line, (end_s, _) in zip(lines, [line[0] for line in lines[1:]] + [(18.0, "")], strict=True):
        timed = line[0][1] + "".join(f"<00:00:{at:06.3f}><c> {word}</c>" for at, word in line[1:])
        text += f"\n00:00:{line[0][0]:06.3f} --> 00:00:{end_s:06.3f}\n{before}\n{timed}\n"
        before = " ".join(word for _, word in line)
    stem.with_suffix(".en.vtt").write_text(text)


def run_on(config: Path, output: Path, **arguments) -> RunResult:
    return run_config(read_run_config(config), output, RunnerArguments(**arguments), shown=False)


@pytest.mark.parametrize(
    ("stages", "reasons"), [(TEXT, {"broken_video", "near_duplicate"}), (PICTURES, {"broken_video"})]
)
def test_models_on_a_cluster_make_what_they_make_here(folder, tmp_path, stages, reasons):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.format(folder=folder, stages=stages))
    here = run_on(config, tmp_path / "here")
    assert reasons <= {reason for count in here.progress.counts for reason in count.reasons}
    assert here.progress.counts[-1].kept.records >= N_VIDEOS - 1
    there = run_on(config, tmp_path / "there", engine="ray", ray_address="local")
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    assert all(count.n_ran for count in there.progress.counts)
    for stage in config_stages(config):
        check_places(tmp_path, stage)
    again = run_on(config, tmp_path / "there", engine="ray", ray_address="local")
    assert not any(count.n_ran for count in again.progress.counts)


def config_stages(config: Path) -> list[str]:
    return [stage.name for stage in read_run_config(config).stages]


def check_places(folder: Path, stage: str, n_nodes: int = 1) -> None:
    """A stage worked in this engine's processes here, and there in actors of so many nodes, which ran this code."""
    here, there = (places_of(folder / name, stage) for name in ("here", "there"))
    assert here["actor"] == here["node"] == {None} and here["pid"]
    assert there["code"] == {str(REPOSITORY)}
    assert len(there["node"]) == n_nodes and len(there["actor"]) == len(there["pid"]) >= n_nodes
    assert None not in there["node"] | there["actor"] and os.getpid() not in there["pid"]


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """The address of a Ray cluster of two nodes with a core each, on this machine."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "num_gpus": 0})
    cluster.add_node(num_cpus=1, num_gpus=0)
    cluster.wait_for_nodes()
    yield cluster.address
    cluster.shutdown()


def test_work_goes_over_two_nodes(tmp_path, two_nodes):
    """Two stages that stream into each other need a core each, so each works on a node of its own."""
    config = write_config(tmp_path, make_videos(tmp_path / "videos.jsonl", 12), text=TWO_GROUPS)
    run_on(config, tmp_path / "here", num_workers=1)
    run_on(config, tmp_path / "there", engine="ray", ray_address=two_nodes)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    check_places(tmp_path, "tests.production", n_nodes=2)


def test_a_stage_that_takes_a_whole_machine_works_on_two_nodes(tmp_path, two_nodes):
    """It asks for the cores of a node, not for those of the cluster, which no node has; and both nodes have one."""
    videos = make_videos(tmp_path / "videos.jsonl", 12)
    run_on(write_config(tmp_path, videos, text=TROUBLED), tmp_path / "here", num_workers=1)
    config = write_config(tmp_path, videos, {"gpus": 1, "cpus": 0, "meet": 2}, TROUBLED)
    run_on(config, tmp_path / "there", engine="ray", ray_address=two_nodes)
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    check_places(tmp_path, "tests.production", n_nodes=2)


def test_failed_records_are_tried_again_on_a_cluster_and_only_those(tmp_path, two_nodes):
    videos = make_videos(tmp_path / "videos.jsonl", 8)
    run_on(write_config(tmp_path, videos, text=TROUBLED), tmp_path / "here", num_workers=1)
    some = sorted(measured(tmp_path / "here"))[1:3]
    config = write_config(tmp_path, videos, {"fail": some, "folder": str(tmp_path)}, TROUBLED)
    on_ray = {"engine": "ray", "ray_address": two_nodes}
    (tmp_path / "broken").touch()
    assert run_on(config, tmp_path / "there", **on_ray).n_failed == 2
    (tmp_path / "broken").unlink()
    assert run_on(config, tmp_path / "there", **on_ray).n_failed == 2, "they are not tried again unless asked for"
    before = measured(tmp_path / "there")
    assert run_on(config, tmp_path / "there", **on_ray, retry_failed=True).n_failed == 0
    assert measured(tmp_path / "there") - before == dict.fromkeys(some, 1)
    made = ["made_with_seeks.jsonl", "made_held_out_with_seeks.jsonl", "rejected.jsonl"]
    assert [(tmp_path / "there" / name).read_bytes() for name in made] == [
        (tmp_path / "here" / name).read_bytes() for name in made
    ]


DRIVER = """
import sys
sys.path.insert(0, {repository!r})
from data.production.run import main
sys.exit(main({flags!r}))
"""


def test_actors_run_the_code_of_the_driver(tmp_path):
    """Though another copy of it is first in the environment's path, and the driver was started elsewhere."""
    for name in ("data", "utils"):
        shutil.copytree(REPOSITORY / name, tmp_path / "other code" / name)
    config = write_config(tmp_path, make_videos(tmp_path / "videos.jsonl", 4), text=TWO_GROUPS.replace(TROUBLE, ""))
    run_on(config, tmp_path / "here", num_workers=1)
    flags = [str(config), "--output_dir", str(tmp_path / "there"), "--engine", "ray", "--ray_address", "local"]
    script = DRIVER.format(repository=str(REPOSITORY), flags=[*flags, "--num_workers", "1", "--no_report"])
    (tmp_path / "elsewhere").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path / "elsewhere", capture_output=True, text=True, timeout=100,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "other code")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert contents(tmp_path / "there") == contents(tmp_path / "here")
    check_places(tmp_path, "pretrain_to_clips")
