"""An OpenAI-compatible server in this process that misbehaves as a test wants, and keeps its own accounts."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PRICES = (2.50, 10.00)  # dollars per million tokens of gpt-4o-2024-08-06


@dataclass
class Response:
    """What one request gets. body: a reply's text, or bytes sent as they are. hang: seconds before anything is sent."""

    body: str | bytes | dict = "Commentary A"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    hang_s: float = 0.0
    refusal: str | None = None
    finish: str = "stop"
    logprobs: dict[str, float] | None = None  # of the first token


Behaviour = Callable[[int, str], Response]  # number of the request from 0, its prompt


def shown_texts(prompt: str) -> tuple[str, str]:
    """The two commentaries of a judge's prompt."""
    after = prompt.split("Commentary A:\n")[1]
    first, rest = after.split("\n\nCommentary B:\n")
    return first, rest.split("\n\nReply")[0]


def prefers_first(number: int, prompt: str) -> Response:
    """A judge that reads nothing."""
    return Response("Commentary A")


def prefers_good(number: int, prompt: str) -> Response:
    """A judge that likes the word "good"; where both or none have it, the first one."""
    first, second = shown_texts(prompt)
    return Response("Commentary B" if "good" in second and "good" not in first else "Commentary A")


class JudgeServer:
    """Serves /v1/chat/completions and Azure's path on a free port, as a context manager."""

    def __init__(self, behave: Behaviour = prefers_first):
        self.behave = behave
        self.requests: list[dict[str, Any]] = []  # path, headers and body of each
        self.n_input = self.n_output = 0  # tokens of the replies that it sent
        self.lock = threading.Lock()
        self.most_at_once = self._at_once = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def api_base(self) -> str:
        return f"{self.url}/v1"

    @property
    def cost(self) -> float:
        """Dollars, by its own count."""
        return (self.n_input * PRICES[0] + self.n_output * PRICES[1]) / 1e6

    def __enter__(self) -> "JudgeServer":
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(server) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_POST(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        content = body["messages"][-1]["content"]
        prompt = content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
        with self.lock:
            number = len(self.requests)
            self.requests.append(
                {
                    "path": handler.path,
                    "headers": {name.lower(): value for name, value in handler.headers.items()},
                    "body": body,
                }
            )
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            response = self.behave(number, prompt)
            self._released.wait(response.hang_s)
            if not self._released.is_set() or not response.hang_s:
                self._send(handler, response, body["model"], prompt)
        finally:
            with self.lock:
                self._at_once -= 1

    def _send(self, handler: BaseHTTPRequestHandler, response: Response, model: str, prompt: str) -> None:
        sent = response.body
        if isinstance(sent, str) and response.status == 200:
            usage = {"prompt_tokens": len(prompt) // 4, "completion_tokens": 1 + len(sent) // 4}
            message = {"role": "assistant", "content": sent, "refusal": response.refusal}
            choice = {"index": 0, "message": message, "finish_reason": response.finish}
            if response.logprobs:
                tops = [{"token": t, "logprob": v, "bytes": None} for t, v in response.logprobs.items()]
                choice["logprobs"] = {"content": [{**tops[0], "top_logprobs": tops}]}
            sent = {"id": "1", "object": "chat.completion", "created": 0, "model": model,
                    "choices": [choice], "usage": usage}  # fmt: skip
            with self.lock:
                self.n_input += usage["prompt_tokens"]
                self.n_output += usage["completion_tokens"]
        elif isinstance(sent, str):
            sent = {"error": {"message": sent, "code": "unsupported_parameter" if response.status == 400 else None}}
        data = sent if isinstance(sent, bytes) else json.dumps(sent).encode()
        kind = "text/html" if isinstance(sent, bytes) else "application/json"
        try:
            handler.send_response(response.status)
            headers = {"Content-Type": kind, "Content-Length": str(len(data)), **response.headers}
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:  # the other side has given up
            handler.close_connection = True
