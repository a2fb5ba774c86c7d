"""Results of other harnesses, row by row: lmms-eval's logs of samples, and VLMEvalKit's tables of predictions."""

import json
from pathlib import Path
from typing import Any

from evaluation.tasks.lines import read_benchmark
from utils.errors import UserError

LMMS_EVAL, VLMEVALKIT = "lmms-eval", "vlmevalkit"
FAILED_REPLIES = ("[LMMS_EVAL_REQUEST_FAILED", "Failed to obtain answer via API")  # what they write for a lost request
TABLES = (".tsv", ".csv", ".xlsx", ".json")


def sample_log(path: Path) -> list[dict[str, Any]]:
    """Samples of lmms-eval (DATE_samples_TASK.jsonl). Raises UserError where the file is no such log."""
    rows = [line.fields for line in read_benchmark(path)]
    if not rows or not all("doc_id" in row and ("filtered_resps" in row or "resps" in row) for row in rows):
        raise UserError(f"{path}: no log of lmms-eval: its lines have doc_id and filtered_resps; write one with "
                        "--log_samples")  # fmt: skip
    return rows


def sample_task(path: Path) -> str:
    """The task that a log's name tells: 20260101_samples_videomme.jsonl -> videomme."""
    return path.stem.rpartition("samples_")[2]


def sample_reply(row: dict[str, Any]) -> Any:
    """What the model said: a text, or a list of them where it was asked several times."""
    said = row.get("filtered_resps", row.get("resps"))
    while isinstance(said, list) and len(said) == 1:
        said = said[0]
    return [answered(one) for one in said] if isinstance(said, list) else answered(said)


def answered(said: Any) -> str:
    """What a model said; "" where the harness says that the request failed."""
    return "" if said is None or str(said).startswith(FAILED_REPLIES) else str(said)


def measured(row: dict[str, Any], *needed: str) -> dict[str, Any] | None:
    """The measurement of a sample that has the fields needed: its name differs from task to task."""
    found = (value for value in row.values() if isinstance(value, dict) and all(name in value for name in needed))
    return next(found, None)


def prediction_table(path: Path) -> list[dict[str, Any]]:
    """Rows of VLMEvalKit's table of predictions (MODEL_DATASET.tsv, .csv, .xlsx or .json); what is missing is "".

    Raises UserError where the file is no such table.
    """
    import pandas  # slow to import

    try:
        match path.suffix:
            case ".xlsx":
                frame = pandas.read_excel(path)
            case ".json":
                frame = pandas.DataFrame(json.loads(path.read_text(encoding="utf-8")))
            case suffix:
                frame = pandas.read_csv(path, sep="\t" if suffix == ".tsv" else ",")
    except ImportError as error:
        raise UserError(f"{path}: {error}; or have VLMEvalKit write a table with PRED_FORMAT=tsv") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as a table ({error})") from error
    if not {"index", "prediction", "answer"} <= {*frame.columns}:
        raise UserError(f"{path}: no table of VLMEvalKit: it needs the columns index, prediction and answer")
    rows = frame.astype(object).where(frame.notna(), "").to_dict("records")
    return [{**row, "prediction": answered(row["prediction"])} for row in rows]


def model_of_table(path: Path, *datasets: str) -> str:
    """The model that a table's name tells: Qwen2.5-VL-7B_Video-MME_64frame.tsv -> Qwen2.5-VL-7B."""
    places = [place for name in datasets if (place := path.stem.find(f"_{name}")) > 0]
    return path.stem[: min(places)] if places else path.stem
