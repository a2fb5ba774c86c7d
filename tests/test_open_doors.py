"""The page and the server serve this machine alone unless told otherwise, and warn where they let everybody in."""

import pytest

from demo import app, serve
from demo.arguments import MemoryArguments
from demo.live.engine import StreamEngineArguments
from demo.server.options import TOKEN_VARIABLE as TOKEN
from demo.server.options import ServerOptions
from demo.web.options import AUTH_VARIABLE as AUTH
from demo.web.options import PageArguments, ViewerArguments


@pytest.fixture
def warned(monkeypatch, capsys):
    """What a page or a server of these options says before it starts, no secret being set in the environment."""
    for name in (AUTH, TOKEN):
        monkeypatch.delenv(name, raising=False)

    def of(where: PageArguments | serve.ListenArguments, options: ServerOptions | None = None) -> str:
        if isinstance(where, PageArguments):
            app.check_page(where, StreamEngineArguments(), ViewerArguments())
        else:
            serve.check_server(where, StreamEngineArguments(), MemoryArguments(), options or ServerOptions())
        return capsys.readouterr().err

    return of


def test_by_default_only_this_machine_is_served_and_nothing_else_opened(warned):
    page, server = PageArguments(), serve.ListenArguments()
    assert (page.host, page.port, page.share) == ("127.0.0.1", 7860, False)
    assert (server.host, server.port) == ("127.0.0.1", 8000)
    assert not ViewerArguments().allow_urls and not ServerOptions().allow_source
    assert not page.allow_host and not ServerOptions().allow_host
    assert warned(page) == warned(server) == ""


@pytest.mark.parametrize(
    ("where", "who"),
    [
        (PageArguments(host="0.0.0.0"), "0.0.0.0"),
        (PageArguments(share=True), "the public address"),
        (serve.ListenArguments(host="0.0.0.0"), "0.0.0.0"),
        (serve.ListenArguments(host="::"), "::"),
    ],
)
def test_doors_left_open_are_warned_of(warned, where, who):
    assert f"warning: everybody who reaches {who} can use this" in warned(where)


def test_a_closed_door_is_not_warned_of(warned, tmp_path):
    (tmp_path / "auth").write_text("coach:half time")
    assert warned(PageArguments(host="0.0.0.0", share=True, auth_file=str(tmp_path / "auth"))) == ""
    assert warned(serve.ListenArguments(host="0.0.0.0"), ServerOptions(token="x" * 40)) == ""
