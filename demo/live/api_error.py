"""API errors: what a client is told when a request is not served."""

from fastapi import HTTPException
from fastapi.responses import JSONResponse

RETRY_S = 5


class ApiError(HTTPException):
    """HTTP error: a status, and as JSON what was wrong, the limit, the cause and the next step."""

    def __init__(
        self, status: int, error: str, *, limit=None, cause=None, next_step=None, retry_s: float | None = None
    ):
        detail = {"error": error, "limit": limit, "cause": cause, "next_step": next_step}
        headers = {} if retry_s is None else {"Retry-After": str(max(1, round(retry_s)))}
        if status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        super().__init__(status, detail, headers)
        self.retry_s = retry_s

    def response(self) -> JSONResponse:
        """The error as an HTTP answer."""
        return JSONResponse(self.detail, self.status_code, self.headers)

    def as_dict(self) -> dict:
        """The arguments that make the same error elsewhere: `ApiError(**error.as_dict())`."""
        return {"status": self.status_code, "retry_s": self.retry_s, **self.detail}


def unknown_session(session_id: str) -> ApiError:
    """404 for a session id that is not open."""
    return ApiError(
        404, f"session {session_id[:80]!r} is not here", cause="it was closed, timed out, or never opened",
        next_step="open one with POST /sessions, or continue a saved one with {\"resume\": id}",
    )  # fmt: skip


def error_text(error: Exception) -> str:
    """Sentence for people of an error: what was wrong and, of an ApiError, the limit, the cause and the next step."""
    if not isinstance(error, ApiError):
        return str(error)
    detail = error.detail
    said = str(detail["error"])
    said += f" (limit: {detail['limit']})" if detail["limit"] is not None else ""
    said += f": {detail['cause']}" if detail["cause"] else ""
    said += f"; {detail['next_step']}" if detail["next_step"] else ""
    return said[:1].upper() + said[1:] + "."
