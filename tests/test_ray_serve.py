"""demo/server/ray_app.py: two engines on the CPU behind one set of routes; a session stays where it began."""

import json
import socket

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from websockets.sync.client import connect

from demo.cli import NANO_CHECKPOINT
from demo.server.options import ServerOptions
from demo.server.sessions import Sessions
from models.engine import Engine
from models.load import load_checkpoint
from tests.conftest import REPOSITORY
from tests.serving import PATIENCE_S, Client, alone, read_films, said

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
    stop()
    client = start()
    for number, session_id in enumerate(ids[2:]):
        resumed = client.post("/sessions", json={"resume": session_id, "realtime": False}).json()
        assert resumed["next_s"] == 5.0
        client.push(session_id, films[number][10:], 5.0)
        assert said(client.finish(session_id)) == wanted[number]
