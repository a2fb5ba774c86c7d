"""demo/server/ray_app.py: two engines on the CPU behind one set of routes; a session stays where it began."""

import asyncio
import json
import os
import socket
from functools import partial
from types import SimpleNamespace

import psutil
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from demo.arguments import NANO_CHECKPOINT
from demo.live.api_error import ApiError
from demo.server.options import ServerOptions
from demo.server.protocol import NewSession
from demo.server.sessions import Sessions
from models.load import load_checkpoint
from models.streaming.engine import Engine, EngineOptions
from tests.conftest import REPOSITORY
from tests.serving import PATIENCE_S, WINDOW, Client, alone, expected, read_films, said

CONFIG = REPOSITORY / "scripts" / "ray_serve.yaml"


@pytest.fixture
def served(tmp_path):
    """Starts the application as often as it is called; returns a client."""
    import ray
    from ray import serve

    from demo.server.ray_app import application

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})

    def start() -> Client:
        (published,) = yaml.safe_load(CONFIG.read_text())["applications"]
        args = published["args"] | {"gpus_per_engine": 0, "cpus_per_engine": 0.5}
        args["server"] = args["server"] | {"save_dir": str(tmp_path)}
        serve.run(application(args), name="livecc", route_prefix="/")
        return Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S)

    yield start, lambda: serve.delete("livecc")
    serve.shutdown()
    ray.shutdown()


def replica(deployment: str) -> tuple[int, dict]:
    """The process of an engine's deployment, by the title that Ray gives it, and what the engine there has counted."""
    from ray import serve

    titled = [process.pid for process in psutil.process_iter() if f"livecc:{deployment}" in " ".join(process.cmdline())]
    assert len(titled) == 1, titled
    reply = serve.get_deployment_handle(deployment, "livecc").call.remote("measurements").result(timeout_s=PATIENCE_S)
    ((_, counts),) = reply["value"].items()
    return titled[0], counts


class Handle:
    """As Ray's handle of an engine's deployment, to an engine in this process."""

    def __init__(self, sessions: Sessions):
        from demo.server.ray_app import EngineReplica

        self.call = SimpleNamespace(remote=partial(EngineReplica.call, SimpleNamespace(sessions=sessions)))


def test_engines_take_turns_and_keep_their_sessions(nano_checkpoint, films, tmp_path):
    """What stands in front of the engines, without Ray: which of them each session is opened and continued on."""
    from demo.server.ray_app import Replicas

    options = ServerOptions(max_sessions=2, save_dir=str(tmp_path))
    engines = {
        name: Sessions(Engine(nano_checkpoint, EngineOptions(2)), options, WINDOW, name) for name in ("e0", "e1")
    }
    new = NewSession(realtime=False, max_new_tokens=8)

    async def scene() -> None:
        replicas = Replicas({name: Handle(sessions) for name, sessions in engines.items()})
        ids = [(await replicas.create(new))["id"] for _ in range(2)]
        assert [name.partition("-")[0] for name in ids] == ["e0", "e1"]
        for session_id, film in zip(ids, films, strict=True):
            for number, frame in enumerate(film):
                await replicas.push(session_id, frame, number / 2)
            records = []
            ending = asyncio.create_task(replicas.end(session_id))
            async for record in replicas.follow(session_id, 0):
                records += [record] if record else []
            await ending
            assert [record["seq"] for record in records] == list(range(1, len(records) + 1))
            assert said(records) == expected(nano_checkpoint, film) and records[-1]["type"] == "end"
        for name, session_id in zip(engines, ids, strict=True):
            assert list(engines[name].sessions) == [session_id], "each engine has its own session and no other"
        waiting = [(await replicas.create(new))["id"] for _ in range(4)]
        assert [name.partition("-")[0] for name in waiting] == ["e0", "e1", "e0", "e1"]
        with pytest.raises(ApiError, match="503"):  # both are full
            await replicas.create(new)
        await replicas.delete(waiting[0], False)
        again = (await replicas.create(new))["id"]  # the second engine's turn, which has no room
        assert again.startswith("e0-")
        for session_id in (again, waiting[2]):
            await replicas.delete(session_id, False)
        for session_id in waiting[1::2]:
            await replicas.push(session_id, films[0][0], 0.0)
            await replicas.save(session_id)
            await replicas.delete(session_id, True)
        for session_id in waiting[1::2]:  # the first engine has as much room
            assert (await replicas.create(NewSession(resume=session_id)))["id"] == session_id
            assert session_id in engines["e1"].sessions and session_id not in engines["e0"].sessions
        for sessions in engines.values():
            await sessions.close()

    asyncio.run(scene())


def test_sessions_stay_with_their_engine_and_survive_a_restart(served, tmp_path):
    start, stop = served
    checkpoint = load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")
    engine = Engine(checkpoint)
    engine.close()
    films = read_films()
    wanted = [alone(checkpoint, film, Sessions(engine, ServerOptions()).limits) for film in films]

    client = start()
    ids = [client.open() for _ in range(4)]
    assert sorted(name.partition("-")[0] for name in ids) == ["e0", "e0", "e1", "e1"]
    for number, session_id in enumerate(ids):
        client.push(session_id, films[number % 2][:10])
    for number, session_id in enumerate(ids[:2]):
        client.push(session_id, films[number][10:], 5.0)
        assert said(client.finish(session_id)) == wanted[number]
        assert client.frame(session_id, films[0][0], 20.0).status_code == 409
    assert client.get("/sessions/e7-" + "0" * 32).status_code == 404
    address = f"ws://127.0.0.1:{client.base_url.port}/sessions/{ids[2]}/stream"
    with connect(address) as websocket:
        websocket.send(b"no jpeg")
        kinds = []
        while "refused" not in kinds:
            kinds.append(json.loads(websocket.recv(PATIENCE_S))["type"])
    assert {"header", "step"} <= set(kinds)
    metrics = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in metrics for sample in family.samples if sample.name == "livecc_streams"]
    assert {sample.labels["engine"]: sample.value for sample in samples} == {"e0": 1, "e1": 1}

    for session_id in ids[2:]:
        client.events(session_id, until="step", n=3)
    processes, counts = zip(*map(replica, ("engine_0", "engine_1")), strict=True)
    assert len({os.getpid(), *processes}) == 3, "each engine is a process of its own"
    # One session of the first film to its end on the first engine, three steps of it there; so the other film.
    n_steps = [len(words) + 3 for words in wanted]
    assert [(count["opened"], count["steps"]) for count in counts] == [(2, n) for n in n_steps]
    stop()
    client = start()
    for number, session_id in enumerate(ids[2:]):
        resumed = client.post("/sessions", json={"resume": session_id, "realtime": False}).json()
        assert resumed["next_s"] == 5.0
        client.push(session_id, films[number][10:], 5.0)
        assert said(client.finish(session_id)) == wanted[number]
