"""A procedural five-a-side match seen from above: who has the ball, where, and what happens when.

The play is a chain of phases (carry, flight, out of play, dead ball, celebration). The end of a phase decides the
next one and emits the events. An event's time is when it can first be seen: a pass counts when it is received, a
restart when the ball lies on its spot. The gaps leave a commentator at 3 words a second time to speak each event.
"""

from dataclasses import dataclass, field, replace

import numpy as np

LENGTH_M, WIDTH_M = 40.0, 20.0  # pitch; x grows to the right and y downwards in the picture
GOAL_HALF_M = 3.6
TICK_S = 0.05
LINGER_S = 1.3  # how long the trail of a pass and the mark of a tackle or an interception stay visible
MAX_GOALS = 5  # digits and number words that the scoreboard and the commentator have

KINDS = ("kick-off", "pass", "interception", "tackle", "shot", "save", "goal", "corner", "goal kick", "throw-in")
ZONES = ("left", "middle", "right")
FLANKS = ("top", "bottom")
# Own half first: x from the own goal, y from the top. Index 0 is the keeper.
FORMATION = np.array([[1.6, 10.0], [9.0, 5.0], [9.0, 15.0], [26.0, 5.5], [26.0, 14.5]])


@dataclass(frozen=True)
class MatchEvent:
    """One thing that happened. zone: third or flank of the picture; score: goals (home, away) after it."""

    time_s: float
    kind: str
    team: int  # 0 home, 1 away
    zone: str | None
    score: tuple[int, int]


@dataclass(frozen=True)
class Trail:
    """A ball's way through the air. end_s is None while it flies."""

    team: int
    start: tuple[float, float]
    end: tuple[float, float]
    start_s: float
    end_s: float
    shot: bool


@dataclass(frozen=True)
class Moment:
    """All that the renderer needs at one time: positions in metres, marks with the time they began."""

    time_s: float
    players: np.ndarray  # [2, 5, 2]
    ball: tuple[float, float]
    phase: str  # carry | flight | out | placed | celebration
    team: int  # that carries, last touched or restarts
    carrier: int | None
    restart: str | None  # kind of restart while placed
    trail: Trail | None
    mark: MatchEvent | None  # the latest tackle, interception, save or goal
    score: tuple[int, int]


@dataclass
class SimulatedMatch:
    """Simulates a match from its kick-off (or from open play) tick by tick; `moments` and `events` grow."""

    rng: np.random.Generator
    open_play: bool = False
    moments: list[Moment] = field(default_factory=list)
    events: list[MatchEvent] = field(default_factory=list)

    def __post_init__(self):
        rng = self.rng
        self.time_s = 0.0
        self.score = [int(g) for g in rng.choice(4, size=2, p=(0.34, 0.30, 0.22, 0.14))]
        self.home_attacks_right = bool(rng.random() < 0.5)
        self.wander = rng.uniform(0, 2 * np.pi, size=(2, 5, 2))
        self.team = int(rng.integers(2))
        self.carrier: int | None = int(rng.integers(1, 5))
        self.ball = np.array([LENGTH_M / 2, WIDTH_M / 2])
        self.trail: Trail | None = None
        self.mark: MatchEvent | None = None
        self.restart: str | None = None
        self.phase, self.phase_end_s = "carry", 0.0
        self.players = np.stack([self._anchors(team) for team in (0, 1)])
        if self.open_play:
            self.ball = self._spot(rng.uniform(10, 30))
            self.players[self.team, self.carrier] = self.ball
            self._start_carry()
        else:
            self._place("kick-off", self.team, self.ball)

    # geometry

    def attacks_right(self, team: int) -> bool:
        return self.home_attacks_right == (team == 0)

    def _to_picture(self, team: int, own: np.ndarray) -> np.ndarray:
        """Coordinates seen from a team's own goal -> picture, or back (it is its own inverse)."""
        if self.attacks_right(team):
            return np.asarray(own, dtype=float)
        return np.array([LENGTH_M, WIDTH_M]) - own

    def _anchors(self, team: int) -> np.ndarray:
        return np.array([self._to_picture(team, spot) for spot in FORMATION])

    def _spot(self, x: float) -> np.ndarray:
        return np.array([x, self.rng.uniform(3.0, WIDTH_M - 3.0)])

    def _own_x(self, team: int) -> float:
        return float(self._to_picture(team, self.ball)[0])

    # events and phases

    def _emit(self, kind: str, team: int, zone: str | None) -> MatchEvent:
        event = MatchEvent(round(self.time_s, 3), kind, team, zone, tuple(self.score))
        self.events.append(event)
        return event

    def _third(self) -> str:
        return ZONES[min(int(self.ball[0] / (LENGTH_M / 3)), 2)]

    def _flank(self) -> str:
        return FLANKS[int(self.ball[1] > WIDTH_M / 2)]

    def _begin(self, phase: str, duration_s: float) -> None:
        self.phase, self.phase_end_s = phase, self.time_s + duration_s

    def _start_carry(self, shortest_s: float = 1.0) -> None:
        """Begin a dribble; what ends it is decided now so that an opponent can close in for a tackle."""
        rng = self.rng
        self.restart = None
        self.carry_from = self.ball.copy()
        own_x = self._own_x(self.team)
        keeper = self.carrier == 0
        weights = {"pass": 0.34, "interception": 0.22, "tackle": 0.22, "out": 0.16, "shot": 0.0}
        if own_x > 18 and not keeper:
            weights = {"pass": 0.10, "interception": 0.08, "tackle": 0.12, "out": 0.06, "shot": 0.64}
        if keeper:
            weights = {"pass": 0.6, "interception": 0.3, "tackle": 0.0, "out": 0.1, "shot": 0.0}
        names = list(weights)
        shares = np.array([weights[n] for n in names])
        self.plan = names[rng.choice(len(names), p=shares / shares.sum())]
        self._begin("carry", shortest_s + rng.uniform(0.0, 0.8) + (0.6 if self.plan in ("tackle", "shot") else 0.0))
        goal_dir = 1.0 if self.attacks_right(self.team) else -1.0
        step = np.array([goal_dir * rng.uniform(-1.0, 4.0), rng.uniform(-3.0, 3.0)])
        self.carry_to = np.clip(self.ball + (0 if keeper else step), [2.5, 2.5], [LENGTH_M - 2.5, WIDTH_M - 2.5])
        self.carry_start_s = self.time_s
        self.chaser = self._nearest(1 - self.team, self.carry_to)

    def _nearest(self, team: int, spot: np.ndarray) -> int:
        return 1 + int(np.argmin(np.linalg.norm(self.players[team, 1:] - spot, axis=1)))

    def _kick(self, target: np.ndarray, duration_s: float, plan: str, receiver: tuple[int, int] | None) -> None:
        shot = plan == "shot"
        end_s = self.time_s + duration_s
        self.trail = Trail(self.team, tuple(self.ball), tuple(target), self.time_s, end_s, shot)
        self.flight_plan, self.receiver, self.carrier, self.restart = plan, receiver, None, None
        self._begin("flight", duration_s)

    def _pass_target(self, receiver_team: int) -> tuple[np.ndarray, int]:
        """A player of `receiver_team` and a spot near them, 11 to 24 m away where that can be had."""
        candidates = [i for i in range(1, 5) if (receiver_team, i) != (self.team, self.carrier)]
        spots = np.clip(
            self.players[receiver_team, candidates] + self.rng.normal(0, 2.0, size=(len(candidates), 2)),
            [2.5, 2.5],
            [LENGTH_M - 2.5, WIDTH_M - 2.5],
        )
        distance = np.linalg.norm(spots - self.ball, axis=1)
        badness = (
            np.maximum(11 - distance, 0) * 3 + np.maximum(distance - 24, 0) + self.rng.uniform(0, 4, len(candidates))
        )
        best = int(np.argmin(badness))
        return spots[best], candidates[best]

    def _release(self) -> None:
        """Carry out the carrier's plan, whose time has come."""
        rng, plan = self.rng, self.plan
        if plan == "tackle":
            self.team, self.carrier = 1 - self.team, self.chaser
            self.mark = self._emit("tackle", self.team, self._third())
            self.trail = None
            self._start_carry(1.4)
        elif plan == "shot":
            self._shoot()
        elif plan == "out":
            top = self.ball[1] < WIDTH_M / 2
            spot = np.array(
                [np.clip(self.ball[0] + rng.uniform(-8, 8), 4, LENGTH_M - 4), -1.2 if top else WIDTH_M + 1.2]
            )
            self._kick(spot, 0.7, "throw-in", None)
        else:
            team = self.team if plan == "pass" else 1 - self.team
            spot, player = self._pass_target(team)
            self._kick(spot, rng.uniform(0.65, 0.9), plan, (team, player))

    def _shoot(self) -> None:
        rng = self.rng
        goal_x = LENGTH_M if self.attacks_right(self.team) else 0.0
        outward = 1.0 if goal_x else -1.0
        self._emit("shot", self.team, self._third())
        can_score = self.score[self.team] < MAX_GOALS
        result = str(rng.choice(["goal", "save", "corner", "goal kick"], p=[0.25, 0.25, 0.25, 0.25]))
        result = "save" if result == "goal" and not can_score else result
        y = WIDTH_M / 2 + rng.uniform(-0.7, 0.7) * GOAL_HALF_M
        if result in ("corner", "goal kick"):
            y = WIDTH_M / 2 + rng.choice([-1, 1]) * rng.uniform(GOAL_HALF_M + 1.5, 7.5)
        depth = {"goal": 1.6, "save": -1.4}.get(result, 1.8)
        self._kick(np.array([goal_x + outward * depth, y]), rng.uniform(1.3, 1.6), "shot", None)
        self.flight_plan = result

    def _land(self) -> None:
        """End the ball's flight as it was planned."""
        plan, other = self.flight_plan, 1 - self.team
        if plan in ("pass", "interception"):
            self.team, self.carrier = self.receiver
            event = self._emit(plan, self.team, self._third())
            self.mark = event if plan == "interception" else None
            self._start_carry()
        elif plan == "save":
            self.team, self.carrier = other, 0
            self.mark = self._emit("save", other, None)
            self._start_carry(1.5)
        elif plan == "goal":
            self.score[self.team] += 1
            self.mark = self._emit("goal", self.team, None)
            self._begin("celebration", self.rng.uniform(2.0, 2.5))
        else:
            self._begin("out", self.rng.uniform(0.5, 0.8))

    def _restart_after_out(self) -> None:
        plan, spot = self.flight_plan, self.ball
        if plan == "throw-in":
            self._place(plan, 1 - self.team, np.array([spot[0], -0.6 if spot[1] < 0 else WIDTH_M + 0.6]))
            return
        left = spot[0] < LENGTH_M / 2
        if plan == "corner":
            corner = np.array([0.3 if left else LENGTH_M - 0.3, 0.3 if spot[1] < WIDTH_M / 2 else WIDTH_M - 0.3])
            self._place(plan, self.team, corner)
        else:
            self._place(plan, 1 - self.team, np.array([3.2 if left else LENGTH_M - 3.2, WIDTH_M / 2]))

    def _place(self, kind: str, team: int, spot: np.ndarray) -> None:
        """Lay a dead ball on its spot; that is when the restart is an event."""
        self.team, self.restart, self.trail, self.mark = team, kind, None, None
        self.ball = np.array(spot, dtype=float)
        self.carrier = 0 if kind == "goal kick" else self._nearest(team, self.ball)
        self.players[team, self.carrier] = self.ball
        zone = self._flank() if kind in ("corner", "throw-in") else None
        self._emit(kind, team, zone)
        self._begin("placed", self.rng.uniform(1.3, 1.7))

    def _take_restart(self) -> None:
        """Pass the ball back into play; two of three passes reach the own team."""
        team = self.team if self.restart == "kick-off" or self.rng.random() < 0.67 else 1 - self.team
        spot, player = self._pass_target(team)
        if self.restart == "corner":
            goal_x = LENGTH_M - 6 if self.ball[0] > LENGTH_M / 2 else 6
            spot = np.array([goal_x + self.rng.uniform(-2.5, 2.5), WIDTH_M / 2 + self.rng.uniform(-4, 4)])
        plan = "pass" if team == self.team else "interception"
        self._kick(spot, self.rng.uniform(0.7, 0.9), plan, (team, player))

    def _next_phase(self) -> None:
        if self.phase == "carry":
            self._release()
        elif self.phase == "flight":
            self._land()
        elif self.phase == "out":
            self._restart_after_out()
        elif self.phase == "celebration":
            self._place("kick-off", 1 - self.team, np.array([LENGTH_M / 2, WIDTH_M / 2]))
        else:
            self._take_restart()

    # motion

    def _move_ball(self) -> None:
        if self.phase == "carry":
            share = (self.time_s - self.carry_start_s) / max(self.phase_end_s - self.carry_start_s, TICK_S)
            self.ball = self.carry_from + (self.carry_to - self.carry_from) * min(share, 1.0)
        elif self.phase == "flight":
            trail = self.trail
            share = min((self.time_s - trail.start_s) / (trail.end_s - trail.start_s), 1.0)
            self.ball = np.array(trail.start) + (np.array(trail.end) - np.array(trail.start)) * share

    def _targets(self) -> np.ndarray:
        """Where each player wants to be: formation, shifted with the ball, plus what the phase asks of some."""
        targets = np.empty((2, 5, 2))
        in_halves = self.phase == "celebration" or self.restart == "kick-off"
        for team in (0, 1):
            own_ball = self._to_picture(team, self.ball)
            shift = np.zeros(2) if in_halves else np.array([(own_ball[0] - 20) * 0.5 + 2, (own_ball[1] - 10) * 0.35])
            own = FORMATION + shift
            own[:, 0] = np.minimum(own[:, 0], 18.5) if in_halves else own[:, 0]
            own[0] = FORMATION[0] + [0.0, np.clip(own_ball[1] - 10, -2.6, 2.6) * 0.7]
            targets[team] = [self._to_picture(team, spot) for spot in own]
        targets[:, 1:] += 1.2 * np.sin(0.9 * self.time_s + self.wander[:, 1:])
        if self.phase == "carry" and self.plan == "tackle" and self.carrier is not None:
            targets[1 - self.team, self.chaser] = self.ball
        if self.phase == "flight" and self.receiver is not None:
            targets[self.receiver] = self.trail.end
        if self.phase == "flight" and self.flight_plan == "save":
            targets[1 - self.team, 0] = self.trail.end
        return targets

    def _move_players(self) -> None:
        way = self._targets() - self.players
        distance = np.linalg.norm(way, axis=-1, keepdims=True)
        speed = np.where(distance > 8, 14.0, 7.0)  # metres a second; nobody is far from play for long
        self.players = self.players + way * np.minimum(speed * TICK_S / np.maximum(distance, 1e-6), 1.0)
        if self.carrier is not None:
            self.players[self.team, self.carrier] = self.ball
        if self.phase == "flight" and self.receiver is not None and self.time_s >= self.phase_end_s - TICK_S:
            self.players[self.receiver] = self.ball

    def _moment(self) -> Moment:
        trail = self.trail
        if trail and self.time_s - trail.end_s > LINGER_S:
            trail = None
        players, ball = self.players.copy(), tuple(float(c) for c in self.ball)
        return Moment(
            self.time_s,
            players,
            ball,
            self.phase,
            self.team,
            self.carrier,
            self.restart,
            trail,
            self.mark,
            tuple(self.score),
        )

    def tick(self) -> None:
        """Record the present moment, then advance by TICK_S."""
        if self.time_s >= self.phase_end_s - 1e-9:
            self._next_phase()
        self._move_ball()
        self._move_players()
        self.moments.append(self._moment())
        self.time_s = round(self.time_s + TICK_S, 6)


@dataclass(frozen=True)
class MatchWindow:
    """A stretch of a match with times counted from its start. `earlier` events have times below 0."""

    moments: list[Moment]
    events: list[MatchEvent]
    earlier: list[MatchEvent]
    duration_s: float

    def at(self, time_s: float) -> Moment:
        """The moment on screen at a time in seconds from the window's start."""
        return self.moments[min(round(time_s / TICK_S), len(self.moments) - 1)]


def play_window(rng: np.random.Generator, duration_s: float, skip_s: float, open_play: bool) -> MatchWindow:
    """Play a match and keep `duration_s` seconds after the first `skip_s`."""
    match = SimulatedMatch(rng, open_play=open_play)
    for _ in range(round((skip_s + duration_s) / TICK_S) + 1):
        match.tick()
    first = round(skip_s / TICK_S)
    moments = [_shift(m, skip_s) for m in match.moments[first:]]
    events = [replace(e, time_s=round(e.time_s - skip_s, 3)) for e in match.events]
    inside = [e for e in events if 0 <= e.time_s < duration_s]
    return MatchWindow(moments, inside, [e for e in events if e.time_s < 0], duration_s)


def _shift(moment: Moment, by_s: float) -> Moment:
    """Count a moment's times from `by_s`."""
    trail, mark = moment.trail, moment.mark
    trail = trail and replace(trail, start_s=trail.start_s - by_s, end_s=trail.end_s - by_s)
    mark = mark and replace(mark, time_s=mark.time_s - by_s)
    return replace(moment, time_s=moment.time_s - by_s, trail=trail, mark=mark)
