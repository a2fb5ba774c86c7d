"""Names of result files: other settings get other names, and fewer items never replace more.

Published names say nothing of settings, so a folder remembers under which settings each file was written.
"""

import json
from pathlib import Path

from utils.files import write_whole

REGISTER = ".written.json"  # file name -> key of the settings that wrote it, and how many items it holds


def settings_path(folder: Path, stem: str, suffix: str, key: str, n: int) -> Path:
    """Where a file of n items goes: to its plain name, `stem` + `suffix`, where that is free or was written under
    the same settings with no more items; else to a name that the settings' key, and then the number, sets apart.
    """
    register = folder / REGISTER
    written = json.loads(register.read_text(encoding="utf-8")) if register.exists() else {}
    for name in (f"{stem}{suffix}", f"{stem}_{key}{suffix}", f"{stem}_{key}_{n}-items{suffix}"):
        earlier = written.get(name)
        is_ours = earlier is not None and earlier["key"] == key and earlier["n"] <= n
        if is_ours or not (folder / name).exists():
            break
    write_whole(register, json.dumps(written | {name: {"key": key, "n": n}}, indent=1) + "\n")
    return folder / name
