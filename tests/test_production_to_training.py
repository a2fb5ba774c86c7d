"""From raw material to a trained model: match videos with a spoken commentary, through every model stage, to train.py.

Plumbing, not quality: the models are small ones, and nobody is a talking head by a threshold of 1.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from data.samples.annotations import AnnotationFile
from data.video.clip import VideoFile
from tests.judge_server import JudgeServer, Response
from tests.sounds import RATE, make_sounding_video, small_whisper, speak, why_no_speech
from tests.training import ROOT, log_of, run, train_flags

QUERY = "Call the match as you see it, please."
NANO = "models/nano_checkpoint"
CONFIG = """
inputs: {{folder_input: {{folders: ["{folder}/videos"]}}}}
stages:
  - distributed_whisperx: {{model: "{whisper}", language: en}}
  - sft_to_clips: {{min_s: 5, max_s: 20}}
  - lm_loss: {{model: {nano}, min_loss: 1.5, max_loss: 30}}
  - distributed_lmm4asd: {{model: {nano}, threshold: 1.0}}
  - make_prompt: {{model: local, api_base: "{api_base}"}}
  - make_proxies: {{folder: "{folder}/proxies", min_pixels: 11760, total_pixels: 11760}}
  - to_conversation
output: {{name: sft}}
shard_size: 1
"""


def make_commented_match(number: int, folder: Path) -> Path:
    """A made match, and what is said about it, spoken one line after the other."""
    events = json.loads((ROOT / f"demo/sources/match_{number}.events.json").read_text())
    sound = np.zeros(int(events["duration_s"] * RATE), np.float32)
    at = 0
    for line in events["lines"]:
        spoken = speak(line["text"], folder)
        at = max(at, int(line["time_s"] * RATE))
        if at + len(spoken) > len(sound):
            break
        sound[at : at + len(spoken)] = spoken
        at += len(spoken)
    with VideoFile(ROOT / f"demo/sources/match_{number}.mp4") as video:
        n_frames = int(events["duration_s"] * 5)
        indices = np.searchsorted(
            video.table.start_ticks * float(video.table.time_base), np.arange(n_frames) / 5 + 1e-6
        )
        pictures = video.read((indices - 1).clip(0)).permute(0, 2, 3, 1).numpy()
    return make_sounding_video(folder / "videos" / f"match_{number}.mp4", sound, pictures=pictures)


@pytest.mark.slow
def test_from_match_videos_with_speech_to_a_trained_model(tmp_path):
    if why_no_speech():
        pytest.skip(why_no_speech())
    (tmp_path / "videos").mkdir()
    for number in (1, 2):
        make_commented_match(number, tmp_path)
    answer = json.dumps({"result": "YES", "query": QUERY})
    with JudgeServer(lambda number, prompt: Response(answer)) as server:
        values = {"folder": tmp_path, "whisper": small_whisper(), "nano": NANO, "api_base": server.api_base}
        (tmp_path / "config.yaml").write_text(CONFIG.format(**values))
        produce = ["-m", "data.production.run", tmp_path / "config.yaml", "--output_dir", tmp_path / "out"]
        said = run([sys.executable, *map(str, produce), "--num_workers", "1"], OPENAI_API_KEY="none")
    assert (tmp_path / "out/report.html").is_file(), said

    made = AnnotationFile(tmp_path / "out/sft_with_seeks.jsonl")
    samples = [made[i] for i in range(len(made))]
    assert len(samples) >= 2 and len(server.requests) >= len(samples)
    words = " ".join(word.text.lower() for sample in samples for word in sample.words.words)
    assert sum(words.count(word) for word in ("orange", "cyan", "goal", "pass", "left", "right")) >= 5, words
    for sample in samples:
        assert sample.query.text == QUERY and Path(sample.video.video).parent == tmp_path / "proxies"

    flags = train_flags(Path(NANO), made.path, tmp_path / "model", "--max_steps", 3, "--per_device_train_batch_size", 1)
    run([sys.executable, "train.py", *flags])
    losses = [entry["loss"] for entry in log_of(tmp_path / "model")]
    assert len(losses) == 3 and all(np.isfinite(losses))
