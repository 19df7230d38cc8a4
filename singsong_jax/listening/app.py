"""The web app: pages, audio, answers. It decides what is asked next; the browser only shows it.

  GET  /, /static/…             the page
  GET  /api/state               what this rater is to do
  POST /api/consent             {}: begins, and sets the cookie that knows the rater again
  POST /api/headphones          {"trial", "choice"}
  POST /api/answer              {"trial", "answer", "listened": [vocals, Option 1, Option 2]}
  GET  /audio/NAME              a file that study.json names, whole or in ranges
  GET  /admin/export.csv        all answers, for who sends `Authorization: Bearer TOKEN`

A POST returns {"outcome", "state"}. The same one may be sent again: nothing is recorded twice.
"""

import hashlib
import hmac
import json
import pathlib
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from singsong_jax.listening import tones
from singsong_jax.listening.analysis import to_csv
from singsong_jax.listening.store import Listened, Outcome, Store
from singsong_jax.listening.trials import Study

COOKIE_SECONDS = 90 * 24 * 3600
MAX_BODY_BYTES = 4096
MAX_LISTENED_SECONDS = 24 * 3600.0
STATIC = pathlib.Path(__file__).parent / "static"
_PAGES = {"/": "index.html", "/static/study.css": "study.css", "/static/study.js": "study.js"}
_STATUS = {Outcome.SAVED: 200, Outcome.REPEATED: 200, Outcome.CONFLICT: 409, Outcome.UNKNOWN: 404}
_HEADERS = {
  "Content-Security-Policy": "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'none'; "
  "frame-ancestors 'none'",
  "X-Content-Type-Options": "nosniff",
  "Referrer-Policy": "no-referrer",
  "Cross-Origin-Resource-Policy": "same-origin",
}


def make_app(folder: pathlib.Path, study: Study, store: Store, admin_token: str) -> ASGIApp:
  """The app for a study in `folder`."""
  views = _Views(folder, study, store, admin_token)
  routes = [Route(path, _page(name), methods=["GET"]) for path, name in _PAGES.items()]
  routes += [
    Route("/api/state", views.state, methods=["GET"]),
    Route("/api/consent", views.consent, methods=["POST"]),
    Route("/api/headphones", views.headphones, methods=["POST"]),
    Route("/api/answer", views.answer, methods=["POST"]),
    Route("/audio/{name}", views.audio, methods=["GET"]),
    Route("/admin/export.csv", views.export, methods=["GET"]),
  ]
  app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})
  return _with_headers(app)


class _Views:
  def __init__(self, folder: pathlib.Path, study: Study, store: Store, admin_token: str):
    self._audio, self._study, self._store = folder / "audio", study, store
    self._admin_token = admin_token
    self._audio_names = study.audio_names()
    # Cookies are shared by all ports of a host: two studies there need two names.
    self._cookie = f"rater_{hashlib.sha256(study.trials[0].id.encode()).hexdigest()[:8]}"

  async def state(self, request: Request) -> Response:
    rater = await run_in_threadpool(self._rater, request)
    return JSONResponse(await run_in_threadpool(self._state, rater))

  async def consent(self, request: Request) -> Response:
    await _fields(request, ())
    rater = await run_in_threadpool(self._rater, request)
    token = None
    if rater is None:
      token = await run_in_threadpool(self._store.add_rater)
      rater = await run_in_threadpool(self._store.rater, token)
    response = await run_in_threadpool(self._outcome, Outcome.SAVED if token else Outcome.REPEATED, rater)
    if token:
      response.set_cookie(
        self._cookie,
        token,
        max_age=COOKIE_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
      )
    return response

  async def headphones(self, request: Request) -> Response:
    fields = await _fields(request, ("trial", "choice"))
    trial, choice = _text(fields["trial"]), _whole(fields["choice"], "choice", 0, 2)
    rater = await run_in_threadpool(self._known_rater, request)
    outcome = await run_in_threadpool(self._store.answer_tones, rater, trial, choice)
    return await run_in_threadpool(self._outcome, outcome, rater)

  async def answer(self, request: Request) -> Response:
    fields = await _fields(request, ("trial", "answer", "listened"))
    trial, answer = _text(fields["trial"]), _whole(fields["answer"], "answer", -2, 2)
    listened = _listened(fields["listened"])
    rater = await run_in_threadpool(self._known_rater, request)
    outcome = await run_in_threadpool(self._store.answer, rater, trial, answer, listened)
    return await run_in_threadpool(self._outcome, outcome, rater)

  async def audio(self, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in self._audio_names:
      raise HTTPException(404, "no such sound")
    return FileResponse(
      self._audio / name, media_type="audio/wav", headers={"Cache-Control": "private, max-age=86400"}
    )

  async def export(self, request: Request) -> Response:
    given = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(given, f"Bearer {self._admin_token}".encode()):
      raise HTTPException(401, "the admin's token is needed", headers={"WWW-Authenticate": "Bearer"})
    text = to_csv(await run_in_threadpool(self._store.export))
    headers = {"Cache-Control": "no-store", "Content-Disposition": "attachment; filename=answers.csv"}
    return Response(text, media_type="text/csv", headers=headers)

  def _rater(self, request: Request) -> str | None:
    token = request.cookies.get(self._cookie)
    return token and self._store.rater(token)

  def _known_rater(self, request: Request) -> str:
    rater = self._rater(request)
    if not rater:
      raise HTTPException(403, "this browser has not begun the study, or lost its cookie")
    return rater

  def _outcome(self, outcome: Outcome, rater: str) -> Response:
    return JSONResponse({"outcome": outcome.value, "state": self._state(rater)}, status_code=_STATUS[outcome])

  def _state(self, rater: str | None) -> dict[str, Any]:
    """What the browser is to show. It never says what an option is made of, or which trials are checks."""
    settings = self._study.settings
    total = settings.trials_per_rater + settings.checks_per_rater
    if not rater:
      return {
        "stage": "consent",
        "of": total,
        "contact": settings.contact,
        "headphones": settings.require_headphones,
        "checks": settings.checks_per_rater > 0,
      }
    answered, right = self._store.tones_answered(rater)
    if answered < len(self._study.tones):
      tone = self._study.tones[answered]
      return {
        "stage": "headphones",
        "number": answered + 1,
        "of": len(self._study.tones),
        "trial": tone.id,
        "sounds": [f"/audio/{tone.file}"],
      }
    if settings.require_headphones and right < tones.PASS:
      return {"stage": "no_headphones"}
    due = self._store.next_trial(rater)
    if due is None:
      return {"stage": "done"}
    position, trial = due
    names = (trial.vocals_file, trial.left_file, trial.right_file)
    return {
      "stage": "trial",
      "number": position + 1,
      "of": total,
      "trial": trial.id,
      "sounds": [f"/audio/{name}" for name in names],
      "listen_seconds": settings.listen_seconds,
    }


def _page(name: str):
  async def page(_: Request) -> Response:
    return FileResponse(STATIC / name, headers={"Cache-Control": "no-cache"})

  return page


async def _fields(request: Request, names: tuple[str, ...]) -> dict[str, Any]:
  """The JSON object of a POST, with exactly these fields. Raises HTTPException 400 or 413."""
  if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
    raise HTTPException(400, "the content type must be application/json")  # no form of another site can
  body = b""
  async for chunk in request.stream():
    body += chunk
    if len(body) > MAX_BODY_BYTES:
      raise HTTPException(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
  try:
    found = json.loads(body)
  except (ValueError, RecursionError):
    raise HTTPException(400, "the body is not JSON") from None
  if not isinstance(found, dict) or found.keys() != set(names):
    raise HTTPException(400, f"the body must be an object with the fields {', '.join(names) or 'none'}")
  return found


def _text(value: Any) -> str:
  if not isinstance(value, str) or not value.isascii():
    raise HTTPException(400, "trial must be the id of a trial")
  return value


def _whole(value: Any, name: str, least: int, most: int) -> int:
  if type(value) is not int or not least <= value <= most:  # a bool is an int to isinstance
    raise HTTPException(400, f"{name} must be a whole number from {least} to {most}")
  return value


def _listened(value: Any) -> Listened:
  if not isinstance(value, list) or len(value) != 3 or not all(map(_is_duration, value)):
    raise HTTPException(400, "listened must be the seconds that vocals, Option 1 and Option 2 were played")
  return Listened(*map(float, value))


def _is_duration(value: Any) -> bool:
  return type(value) in (int, float) and 0 <= value <= MAX_LISTENED_SECONDS  # which NaN is not


async def _refused(_: Request, error: HTTPException) -> Response:
  return JSONResponse({"error": error.detail}, status_code=error.status_code, headers=error.headers)


async def _failed(_: Request, error: Exception) -> Response:
  return JSONResponse({"error": "the server failed; try again"}, status_code=500)


def _with_headers(app: ASGIApp) -> ASGIApp:
  """Adds the headers that tell browsers to be careful; answers of the API are never kept in a cache."""

  async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
    async def send_with_headers(message: Message) -> None:
      if message["type"] == "http.response.start":
        headers = dict(_HEADERS)
        if scope["path"].startswith("/api/"):
          headers["Cache-Control"] = "no-store"
        message["headers"] += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
      await send(message)

    try:
      await app(scope, receive, send_with_headers if scope["type"] == "http" else send)
    except ClientDisconnect:
      pass  # gone in the middle of a POST: it will be sent again

  return wrapped
