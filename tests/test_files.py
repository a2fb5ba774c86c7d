"""utils/files.py: whole files in the place of others, with their mode; links, devices and pipes are written through."""

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.training import ROOT
from utils.errors import UserError
from utils.files import partial_file, write_whole


def test_a_private_file_stays_private(tmp_path):
    path = tmp_path / "record.json"
    path.write_text("old")
    path.chmod(0o600)
    write_whole(path, "new")
    assert path.read_text() == "new" and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("there", [True, False], ids=["to_a_file", "dangling"])
def test_a_link_is_followed(tmp_path, there):
    (tmp_path / "elsewhere").mkdir()
    target, link = tmp_path / "elsewhere" / "target.json", tmp_path / "link.json"
    if there:
        target.write_text("old")
    link.symlink_to(target)
    write_whole(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and [*target.parent.iterdir()] == [target]


def test_a_pipe_is_written_through(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    write_whole(pipe, "words")
    reader.join()
    assert read == ["words"] and pipe.is_fifo()


def test_a_full_device_is_said_and_stays_a_device(tmp_path):
    full = tmp_path / "full"
    try:
        os.mknod(full, stat.S_IFCHR | 0o666, os.makedev(1, 7))
    except PermissionError:  # not root, who alone could replace the machine's own
        full = Path("/dev/full")
    with pytest.raises(UserError, match=r"full: cannot be written .*No space left"):
        write_whole(full, "words")
    assert full.is_char_device()


def test_standard_output_is_written_through(tmp_path):
    words = "from pathlib import Path\nfrom utils.files import write_whole\nwrite_whole(Path('/dev/stdout'), 'words')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", words], cwd=ROOT, stdout=out, check=True)
        assert os.fstat(out.fileno()).st_nlink == 1  # not replaced by another file
    assert (tmp_path / "out").read_text() == "words"


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="Is a directory"):
        write_whole(tmp_path, "words")


def test_what_fails_half_way_leaves_the_old_file(tmp_path):
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(ValueError, match="half"), partial_file(path) as partial:
        partial.write_text("new")
        raise ValueError("half")
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]
