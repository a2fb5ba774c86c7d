"""The nano world: what happens, what it looks like, what is said about it."""

from collections import Counter

import numpy as np
import pytest

from data.nano.commentator import HELD_OUT_WORDINGS, WORDINGS, narrate, score_phrase
from data.nano.palette import KITS, PITCHES, draw_look, kit_pairs
from data.nano.render import MatchPainter
from data.nano.states import PHASES, describe_state, phase_of
from data.nano.world import FLANKS, KINDS, LENGTH_M, WIDTH_M, ZONES, play_window
from utils.errors import UserError


def windows(n: int):
    """A few matches, some from the kick-off."""
    return [play_window(np.random.default_rng(seed), 20.0, 5.0 * (seed % 3), seed % 3 > 0) for seed in range(n)]


@pytest.fixture(scope="module")
def played():
    return windows(16)


def test_every_kind_happens_and_none_prevails(played):
    kinds = Counter(event.kind for window in played for event in window.events)
    assert set(kinds) == set(KINDS)
    assert max(kinds.values()) < 0.4 * kinds.total()


def test_same_seed_gives_the_same_match():
    first, second = windows(1)[0], windows(1)[0]
    assert first.events == second.events
    assert all(np.array_equal(a.players, b.players) for a, b in zip(first.moments, second.moments, strict=True))


def test_zones_and_scores_are_those_of_the_picture(played):
    for window in played:
        for event in window.events:
            moment = window.at(event.time_s)
            x, y = moment.ball
            third, flank = ZONES[np.digitize(x, [LENGTH_M / 3, LENGTH_M * 2 / 3])], FLANKS[int(y > WIDTH_M / 2)]
            expected = {"corner": flank, "throw-in": flank, "kick-off": None, "save": None, "goal": None}
            assert event.zone == expected.get(event.kind, None if event.kind == "goal kick" else third)
            assert window.at(event.time_s + 0.05).score == event.score and moment.team == event.team


def test_the_state_names_the_side_that_has_the_ball(played):
    seen = Counter()
    for window in played:
        for moment in window.moments[::7]:
            at_ball = np.argwhere(np.abs(moment.players - moment.ball).max(-1) < 1e-9)[:, 0]
            if len(set(at_ball)) != 1 or moment.phase not in ("carry", "placed"):
                continue
            said = describe_state(moment, ("red", "blue"))
            assert said.split()[0] == ("red", "blue")[at_ball[0]]
            assert said.endswith(f"red blue {score_phrase(moment.score)}")
            seen[at_ball[0]] += 1
    assert min(seen[0], seen[1]) > 50


def test_every_event_is_spoken_soon_after_it_is_seen(played):
    rng = np.random.default_rng(0)
    lines = [line for window in played for line in narrate(window.events, ("red", "blue"), rng)]
    assert len(lines) == sum(len(window.events) for window in played)
    delays = [line.start_s - line.event.time_s for line in lines]
    assert min(delays) >= 0.2
    assert np.quantile(delays, 0.99) < 1.5
    rates = [len(line.words) / (line.end_s - line.start_s) for line in lines]
    assert np.quantile(rates, 0.02) >= 2.0 and np.quantile(rates, 0.98) <= 3.5


def test_words_follow_each_other(played):
    for line in narrate(played[0].events, ("red", "blue"), np.random.default_rng(1)):
        times = [t for start, end, _ in line.words for t in (start, end)]
        assert times == sorted(times)


def test_wordings_are_several_and_held_out_ones_are_new():
    for kind in KINDS:
        assert len(WORDINGS[kind]) >= 4
        assert len(HELD_OUT_WORDINGS[kind]) >= 2
        assert not set(WORDINGS[kind]) & set(HELD_OUT_WORDINGS[kind])


def test_splits_share_no_kit_pair_and_no_pitch():
    pairs = [{frozenset(pair) for pair in kit_pairs(split)} for split in ("train", "tune", "test")]
    assert sum(map(len, pairs)) == len(set.union(*pairs)) == 28
    for used in pairs:
        assert {colour for pair in used for colour in pair} == set(KITS)
    pitches = [set(PITCHES[split]) for split in PITCHES]
    assert sum(map(len, pitches)) == len(set.union(*pitches))


def test_unknown_split_is_named():
    with pytest.raises(UserError, match="train, tune, test"):
        kit_pairs("dev")


def test_states_use_known_phases(played):
    seen = {phase_of(moment) for window in played for moment in window.moments[::10]}
    assert seen <= set(PHASES)
    assert len(seen) >= 10
    assert describe_state(played[0].at(3.0), ("red", "blue")).split()[0] in ("red", "blue")


@pytest.mark.parametrize("size_hw", [(84, 140), (168, 280)])
def test_frames_look_alike_at_every_size(size_hw):
    window = windows(2)[1]
    look = draw_look(np.random.default_rng(3), "train")
    still = type(look)(look.kits, look.pitch_rgb, noise=0.0, jitter=0.0)
    frame = MatchPainter(still, np.random.default_rng(4), size_hw).frame(window.at(4.0))
    small = MatchPainter(still, np.random.default_rng(4), (84, 140)).frame(window.at(4.0))
    assert frame.shape == (*size_hw, 3) and frame.dtype == np.uint8
    step = size_hw[0] // 84
    shrunk = frame.reshape(84, step, 140, step, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 6.0


@pytest.mark.parametrize("seed", [3, 8])
def test_players_and_ball_wear_their_sides_colours(played, seed):
    look = draw_look(np.random.default_rng(seed), "train")
    still = type(look)(look.kits, look.pitch_rgb, noise=0.0, jitter=0.0)
    painter, seen = MatchPainter(still, np.random.default_rng(4), (336, 560)), Counter()
    kits = [KITS[name] for name in look.kits]
    for moment in (moment for window in played[:6] for moment in window.moments[::40] if moment.phase == "carry"):
        frame, shot = painter.frame(moment), painter.camera.at(moment.time_s)
        x, y = np.add(shot.pixels(moment.ball), (0, shot.length(5)))
        assert np.abs(frame[int(y), int(x)].astype(int) - kits[moment.team]).max() <= 2
        for team, player in np.ndindex(2, 5):
            spot = moment.players[team, player]
            others = np.delete(moment.players.reshape(10, 2), team * 5 + player, 0)
            # Whoever stands free: the ball's disc and whatever marks a tackle reach 7 m.
            if np.linalg.norm(others - spot, axis=1).min() > 3 and np.linalg.norm(spot - moment.ball) > 8:
                x, y = shot.pixels(spot)
                assert np.abs(frame[int(y), int(x)].astype(int) - kits[team]).max() <= 2
                seen[team] += 1
    assert min(seen[0], seen[1]) > 20


def test_scoreboard_shows_kits_and_score():
    window = windows(1)[0]
    look = draw_look(np.random.default_rng(5), "test")
    frame = MatchPainter(look, np.random.default_rng(6), (84, 140)).frame(window.at(1.0))
    for team, column in ((0, 32), (1, 108)):
        seen = frame[4:10, column : column + 3].reshape(-1, 3).mean(axis=0)
        assert np.abs(seen - np.array(KITS[look.kits[team]])).max() < 20
