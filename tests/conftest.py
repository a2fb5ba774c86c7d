"""What every test can use: --golden DIR and fixtures for golden files, small runs and wandb."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.skip_report import SkipReport

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_addoption(parser: pytest.Parser) -> None:
    golden = "folder of the full golden files (tests on them are skipped without it)"
    expected = "fail unless exactly the tests that FILE lists are skipped"
    parser.addoption("--golden", metavar="DIR", help=golden)
    kills = "how often the evaluation of tests/test_killed_evaluation.py is killed (default: 2)"
    parser.addoption("--kills", metavar="N", type=int, default=2, help=kills)
    parser.addoption("--expected-skips", metavar="FILE", help=expected)


def pytest_configure(config: pytest.Config) -> None:
    # Under pytest-xdist the controller receives the workers' reports; the workers have nothing to say.
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipReport(config), "skip_report")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The repository's root, from which all commands run."""
    return REPOSITORY


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Path:
    """The folder given as --golden; the test is skipped without one."""
    folder = request.config.getoption("--golden")
    if not folder:
        pytest.skip("needs --golden DIR: the full golden files are not part of the repository")
    if not Path(folder).is_dir():
        pytest.fail(f"--golden {folder}: no such folder")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random Qwen2-VL of 0.3 M parameters with a complete processor, its head untied (tests/tiny.py)."""
    # Here because it imports torch and transformers, which many tests need not wait for.
    from tests.tiny import make_tiny_checkpoint

    return make_tiny_checkpoint(tmp_path_factory.mktemp("tiny_checkpoint"))


@pytest.fixture(scope="session")
def tied_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with one matrix for embedding and head."""
    from tests.tiny import make_tiny_checkpoint

    return make_tiny_checkpoint(tmp_path_factory.mktemp("tied_checkpoint"), tied=True)


@pytest.fixture(scope="session", params=["untied", "tied"])
def either_checkpoint(request: pytest.FixtureRequest) -> Path:
    """One after the other."""
    return request.getfixturevalue("tiny_checkpoint" if request.param == "untied" else "tied_checkpoint")


@pytest.fixture(scope="session", params=["untied", "tied"])
def qwen2_5_checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2.5-VL, untied and tied."""
    from tests.tiny import make_tiny_checkpoint

    folder = tmp_path_factory.mktemp("qwen2_5_checkpoint")
    return make_tiny_checkpoint(folder, tied=request.param == "tied", family="qwen2_5_vl")


@pytest.fixture(scope="session")
def nano_checkpoint():
    """The shipped small model, as the demo loads it on a CPU."""
    from demo.arguments import NANO_CHECKPOINT
    from models.load import load_checkpoint

    return load_checkpoint(NANO_CHECKPOINT, device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def films() -> list[list[bytes]]:
    """Two pieces of the shipped matches, 11 s each, as JPEGs."""
    from tests.serving import read_films

    return read_films()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What training in this process needs to be small, and equal digit for digit to the runs of tests/training.py."""
    import torch

    from tests.training import SMALL

    for name, value in SMALL.items():
        monkeypatch.setenv(name, value)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def wandb_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of wandb's runs, kept offline, in this test."""
    for name, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}.items():
        monkeypatch.setenv(name, value)
    forget_wandb()
    yield tmp_path / "wandb"
    forget_wandb()


def forget_wandb() -> None:
    """A process keeps its open run and the settings of its first one: neither may pass between tests."""
    import wandb

    wandb.finish()  # teardown alone would leave wandb.run, closed, to the next one
    wandb.teardown()


@pytest.fixture(scope="session", params=["cut", "full"])
def any_golden(request: pytest.FixtureRequest) -> Path:
    """The golden files: tests/golden, cut to the vocabulary in use, and the full ones of --golden."""
    return REPOSITORY / "tests/golden" if request.param == "cut" else request.getfixturevalue("golden")
