"""A streaming session as a file: what one process saved, another continues with the same words.

safetensors: tensors and JSON, nothing that runs when it is read.
"""

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from models.load import Checkpoint
from models.streaming.options import StreamOptions
from models.streaming.requests import Batch
from models.streaming.session import StreamingSession
from models.streaming.token_runs import TokenRun, TokenRuns
from utils.errors import UserError
from utils.files import partial_file
from utils.options import build_options

FORMAT = 1
SAMPLED = 16  # values of each weight that are in a fingerprint


def _fingerprint(checkpoint: Checkpoint) -> str:
    """Digest of the position mode and of the dtype, shape and some values of every weight."""
    digest = hashlib.sha256(checkpoint.position_mode.encode())
    for name, tensor in sorted(checkpoint.model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        values = tensor.flatten()[:: max(1, tensor.numel() // SAMPLED)]
        digest.update(values.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]


def save_session(session: StreamingSession, path: str | os.PathLike) -> Path:
    """Write a session; the file appears under its name only when it is whole. Not during a step.

    Raises UserError where it cannot be written.
    """
    state, cache = session.state, session.state.cache
    tensors = {
        "keys": cache.keys[:, :, : cache.width],
        "values": cache.values[:, :, : cache.width],
        "live": cache.live[: cache.width],
        "generator": session.generator.get_state(),
    }
    runs = []
    for number, run in enumerate(state.tokens.runs):
        entry = {k: v for k, v in vars(run).items() if k not in ("ids", "positions", "slots", "upright")}
        runs.append(entry)
        for name in ("ids", "positions", "slots"):
            tensors[f"{name}.{number}"] = torch.from_numpy(np.ascontiguousarray(getattr(run, name)))
        if run.upright is not None:
            tensors[f"upright.{number}"] = run.upright
    saved = {
        "format": FORMAT,
        "checkpoint": _fingerprint(session.checkpoint),
        "options": asdict(session.options),
        "pending": session.pending,
        "query": session.query,
        "origin_s": session.origin_s,
        "words_saved": session.words_saved,
        "freed": cache.freed,
        "step": state.step,
        "reread_s": state.reread_s,
        "next": state.positions.next,
        "seen_block": state.positions.seen_block,
        "segments": runs,
    }
    path = Path(path)
    tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
    try:
        with partial_file(path) as partial:
            save_file(tensors, partial, metadata={"state": json.dumps(saved)})
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: the session cannot be written there: {error}; give another path") from None
    return path


def load_session(path: str | os.PathLike, checkpoint: Checkpoint, batch: Batch | None = None) -> StreamingSession:
    """Read a session that was saved with the same checkpoint. Raises UserError for any other file."""
    try:
        with safe_open(path, framework="pt") as file:
            saved = json.loads((file.metadata() or {})["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; a session is saved with save_session") from None
    except (SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a saved session ({error}); give a file that save_session wrote") from None
    _check(path, saved, checkpoint)
    session = StreamingSession(checkpoint, build_options(StreamOptions, saved["options"], f"{path}: "), batch)
    session.pending, session.query, session.origin_s = saved["pending"], saved["query"], saved["origin_s"]
    session.words_saved = saved["words_saved"]
    session.generator.set_state(tensors["generator"])
    _restore(session, saved, tensors)
    return session


def _check(path, saved: dict, checkpoint: Checkpoint) -> None:
    if saved.get("format") != FORMAT:
        raise UserError(f"{path}: format {saved.get('format')}, this version reads {FORMAT}; save it again")
    if saved["checkpoint"] != _fingerprint(checkpoint):
        raise UserError(
            f"{path}: saved with other weights, another dtype or position mode than {checkpoint.name}; load the "
            "checkpoint that it was saved with"
        )


def _restore(session: StreamingSession, saved: dict, tensors: dict) -> None:
    state, cache = session.state, session.state.cache
    width = tensors["live"].shape[0]
    cache.reserve(width)
    cache.keys[:, :, :width], cache.values[:, :, :width] = tensors["keys"], tensors["values"]
    cache.live[:width] = tensors["live"].to(cache.live.device)
    cache.width, cache.n_live, cache.freed = width, int(tensors["live"].sum()), saved["freed"]
    state.step, state.reread_s = saved["step"], saved["reread_s"]
    state.positions.next, state.positions.seen_block = saved["next"], saved["seen_block"]
    runs = []
    for number, entry in enumerate(saved["segments"]):
        arrays = {name: tensors[f"{name}.{number}"].numpy() for name in ("ids", "positions", "slots")}
        upright = tensors.get(f"upright.{number}")
        upright = None if upright is None else upright.to(cache.keys.device)
        runs.append(TokenRun(**entry, **arrays, upright=upright))
    state.tokens = TokenRuns(runs)
    if runs:
        ids = torch.from_numpy(np.concatenate([run.ids for run in runs])).to(cache.keys.device)
        state.counts.index_add_(0, ids, torch.ones_like(ids, dtype=torch.int32))
