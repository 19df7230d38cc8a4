"""Serving a study on a port of this machine."""

import os
import pathlib
import secrets
import socket

import uvicorn

from singsong_jax.errors import InputError
from singsong_jax.listening.app import make_app
from singsong_jax.listening.store import Store
from singsong_jax.listening.trials import Study, check_numbers


def serve(folder: pathlib.Path, host: str, port: int) -> None:
  """Serves until it is stopped; prints the address first.

  Args:
    port: 0 for any that is free.

  Raises:
    InputError: no study in the folder, one with too few trials, or the port cannot be had.
  """
  study = Study.read(folder)
  check_numbers(study.trials, study.checks, study.settings)  # earlier versions did not
  token = admin_token(folder)
  listener = _listen(host, port)
  store = Store(folder, study)
  app = make_app(folder, study, store, token)
  # No access log: it would hold the raters' addresses.
  config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, ws="none")
  shown = f"[{host}]" if ":" in host else host
  print(f"listening study at http://{shown}:{listener.getsockname()[1]}/", flush=True)
  print(f"answers: /admin/export.csv with the header 'Authorization: Bearer {token}'", flush=True)
  try:
    uvicorn.Server(config).run(sockets=[listener])
  finally:
    store.close()


def admin_token(folder: pathlib.Path) -> str:
  """The random token in the study's folder, which only the folder's owner can read; made if there is none.

  Raises:
    InputError: it cannot be read or written, or is empty.
  """
  path = folder / "admin_token"
  try:
    try:
      descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
      token = path.read_text(encoding="ascii").strip()
      if len(token) < 20:
        raise InputError(f"{path} holds no token of 20 characters or more; delete it") from None
      return token
    token = secrets.token_urlsafe(32)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
      file.write(token + "\n")
    return token
  except (OSError, UnicodeDecodeError) as error:
    raise InputError(f"cannot use {path}: {error}") from error


def _listen(host: str, port: int) -> socket.socket:
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=128)
  except (OSError, OverflowError) as error:
    raise InputError(f"cannot listen at --host={host} --port={port}: {error}; try another port") from error
