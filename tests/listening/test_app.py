"""The server over HTTP: what raters get, what nobody gets, and what becomes of answers when it is killed."""

import collections
import concurrent.futures
import csv
import dataclasses
import http.client
import json
import socket
import stat

import pytest

from singsong_jax.errors import InputError
from singsong_jax.listening import server as listening_server
from singsong_jax.listening.making import make_study
from singsong_jax.listening.trials import Settings

COOKIE_FLAGS = ("HttpOnly", "SameSite=strict", "Path=/")


class Client:
  """A browser without a page: it keeps its cookie."""

  def __init__(self, server, cookie=None):
    self.server, self.cookie = server, cookie

  def send(self, method, path, body=None, **headers):
    """Status, headers and body. A body that is no bytes is sent as JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
    if body is not None and not isinstance(body, bytes):
      body = json.dumps(body).encode()
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
      headers = {"Content-Type": "application/json"} | headers
    if self.cookie:
      headers["Cookie"] = self.cookie
    try:
      connection.request(method, path, body, headers)
      response = connection.getresponse()
      return response.status, response.headers, response.read()
    finally:
      connection.close()

  def post(self, path, body):
    status, _, text = self.send("POST", path, body)
    return status, json.loads(text)

  def state(self):
    return json.loads(self.send("GET", "/api/state")[2])

  def begin(self):
    """Consents, and does the headphone check: answers are `choice`."""
    status, headers, _ = self.send("POST", "/api/consent", {})
    assert status == 200
    self.cookie = headers["Set-Cookie"].partition(";")[0]
    while (state := self.state())["stage"] == "headphones":
      assert self.post("/api/headphones", {"trial": state["trial"], "choice": 0})[0] == 200
    return self

  def answer(self, state, answer, listened=(1, 2, 3.5)):
    body = {"trial": state["trial"], "answer": answer, "listened": list(listened)}
    return self.post("/api/answer", body)

  def export(self):
    status, _, text = self.send("GET", "/admin/export.csv", Authorization=f"Bearer {self.server.token}")
    assert status == 200
    return list(csv.DictReader(text.decode().splitlines()))


@pytest.fixture(scope="module")
def study(make):
  return make(trials_per_rater=8, checks_per_rater=2, contact="study@example.org")


@pytest.fixture(scope="module")
def server(study, serve):
  return serve(study[0])


def test_the_whole_way(server, study):
  client = Client(server)
  first = client.state()
  contact = "study@example.org"
  assert first == {"stage": "consent", "of": 10, "contact": contact, "headphones": False, "checks": True}
  before = len(client.export())
  client.begin()
  for number in range(1, 11):
    state = client.state()
    assert (state["stage"], state["number"], state["of"]) == ("trial", number, 10)
    assert client.answer(state, 1)[1]["outcome"] == "saved"
  assert client.state() == {"stage": "done"}
  rows = client.export()[before:]
  assert len(rows) == 10 and {row["answer"] for row in rows} == {"1"}
  assert {row["listened_right"] for row in rows} == {"3.5"} and len({row["rater"] for row in rows}) == 1
  assert [row["kind"] for row in rows].count("check") == 2


def test_states_tell_no_source(server, study):
  client = Client(server).begin()
  known = {*study[1].systems, "noise", *(trial.clip for trial in study[1].trials)}
  for _ in range(10):
    state = client.state()
    assert state.keys() == {"stage", "number", "of", "trial", "sounds", "listen_seconds"}
    assert not [name for name in known if name in json.dumps(state)]
    client.answer(state, 0)


def test_answers_that_come_twice(server):
  client = Client(server).begin()
  before = len(client.export())
  state = client.state()
  with concurrent.futures.ThreadPoolExecutor(8) as pool:
    found = list(pool.map(lambda _: client.answer(state, 2), range(8)))
  assert [status for status, _ in found] == [200] * 8
  assert sorted(body["outcome"] for _, body in found) == ["repeated"] * 7 + ["saved"]
  status, body = client.answer(state, -1)
  assert status == 409 and body["outcome"] == "conflict"
  assert body["state"]["trial"] != state["trial"]  # the page moves on
  rows = client.export()[before:]
  assert [row["answer"] for row in rows if row["trial"] == state["trial"]][-1] == "2"
  assert len(rows) == 1


def test_consent_again_is_the_same_rater(server):
  client = Client(server).begin()
  state = client.state()
  status, headers, _ = client.send("POST", "/api/consent", {})
  assert status == 200 and "Set-Cookie" not in headers and client.state() == state


def test_raters_are_apart(server):
  one, other = Client(server).begin(), Client(server).begin()
  state = one.state()
  assert other.state()["trial"] != state["trial"]
  assert other.answer(state, 1)[0] == 404
  stranger = Client(server)
  assert stranger.answer(state, 1)[0] == 403
  name, _, token = one.cookie.partition("=")
  for cookie in (*(f"{name}={value}" for value in ("guess", "", "\xff\xfe", "x" * 3000)), f"rater={token}"):
    forged = Client(server, cookie)
    assert forged.state()["stage"] == "consent" and forged.answer(state, 1)[0] == 403
  assert one.state() == state


def test_two_studies_on_one_host(server, make, serve):
  """A browser sends the cookies of one to the other: it knows hosts, not ports."""
  other = serve(make()[0])
  one = Client(server).begin()
  two = Client(other, one.cookie)
  assert two.state()["stage"] == "consent"
  two.begin()
  assert one.cookie.partition("=")[0] != two.cookie.partition("=")[0]
  both = f"{one.cookie}; {two.cookie}"
  for client in (one, two):
    assert Client(client.server, both).state() == client.state()


@pytest.mark.parametrize(
  "body",
  [
    b"",
    b"{",
    b"\xff\xfe",
    b"[" * 4000,
    b"9" * 4000,
    b"null",
    b"[]",
    b'"text"',
    {},
    {"trial": "x", "answer": 1},
    {"trial": "x", "answer": 1, "listened": [1, 2, 3], "more": 1},
    {"trial": 1, "answer": 1, "listened": [1, 2, 3]},
    {"trial": None, "answer": 1, "listened": [1, 2, 3]},
    {"trial": {"a": 1}, "answer": 1, "listened": [1, 2, 3]},
    b'{"trial": "\\ud800", "answer": 1, "listened": [1, 2, 3]}',
    *(
      {"trial": "x", "answer": answer, "listened": [1, 2, 3]}
      for answer in (3, -3, 1.0, "1", True, None, [1], 10**30)
    ),
    *(
      {"trial": "x", "answer": 1, "listened": listened}
      for listened in (None, 1, [1, 2], [1, 2, 3, 4], [1, 2, "3"], [1, 2, True], [-1, 2, 3], [1, 2, 1e9])
    ),
    b'{"trial": "x", "answer": 1, "listened": [1, 2, NaN]}',
    b'{"trial": "x", "answer": 1, "listened": [1, 2, Infinity]}',
    b'{"trial": "x", "answer": 1, "listened": [1, 2, 1e999]}',
    b'{"trial": "x", "answer": 1, "listened": [1, 2, ' + b"9" * 400 + b"]}",
  ],
)
def test_malformed_answers(server, body):
  status, text = Client(server).post("/api/answer", body)
  assert status == 400 and text["error"]


def test_malformed_in_other_ways(server):
  client = Client(server).begin()
  good = {"trial": client.state()["trial"], "answer": 1, "listened": [1, 2, 3]}
  for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
    assert client.send("POST", "/api/answer", good, Content_Type=kind)[0] == 400
  assert client.post("/api/answer", b" " * 5000)[0] == 413
  assert client.post("/api/headphones", {"trial": "x", "choice": 3})[0] == 400
  assert client.post("/api/headphones", {"trial": "x", "choice": 2})[0] == 404
  assert client.post("/api/consent", {"name": "me"})[0] == 400
  assert client.post("/api/answer", good | {"trial": "x' OR 1=1 --"})[0] == 404
  for method, path in (
    ("GET", "/api/answer"),
    ("PUT", "/api/answer"),
    ("POST", "/"),
    ("DELETE", "/api/state"),
  ):
    assert client.send(method, path)[0] == 405
  assert client.send("POST", "/upload", b"x")[0] == 404
  assert client.answer(client.state(), 1)[0] == 200  # and it still works


def test_a_body_that_never_ends_or_breaks_off(server):
  for tail in (b"{", b""):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
      head = b"POST /api/consent HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50"
      connection.sendall(head + b"\r\n\r\n" + tail)
  assert Client(server).state()["stage"] == "consent"


@pytest.mark.parametrize(
  "path",
  [
    "/audio/../study.json",
    "/audio/..%2fstudy.json",
    "/audio/%2e%2e/study.json",
    "/audio/%2e%2e%2fstudy.json",
    "/audio/..%5cstudy.json",
    "/audio/%252e%252e%252fstudy.json",
    "/audio/....//study.json",
    "/audio//etc/passwd",
    "/audio/%2fetc%2fpasswd",
    "/audio/study.json%00.wav",
    "/audio/",
    "/audio",
    "/audio/.",
    "/audio/%c0%ae%c0%ae/study.json",
    "/static/../trials.py",
    "/static/%2e%2e/trials.py",
    "/static/..%2ftrials.py",
    "/static/index.html",
    "/static/",
    "/../study.json",
    "/study.json",
    "/answers.sqlite",
    "/admin_token",
    "/admin/",
    "/docs",
    "/openapi.json",
  ],
)
def test_nothing_else_can_be_had(server, path):
  status, _, text = Client(server).send("GET", path)
  assert status == 404, text
  assert b"systems" not in text and b"root:" not in text


def test_audio_comes_whole_and_in_ranges(server, study):
  client = Client(server)
  name = sorted(study[1].audio_names())[0]
  whole = (study[0] / "audio" / name).read_bytes()
  status, headers, body = client.send("GET", f"/audio/{name}")
  assert (status, body, headers["Content-Type"]) == (200, whole, "audio/wav")
  assert headers["Accept-Ranges"] == "bytes" and "1970" in headers["Last-Modified"]
  size = len(whole)
  for asked, start, stop in (
    ("0-1", 0, 2),
    ("100-", 100, size),
    ("-10", size - 10, size),
    (f"5-{size * 2}", 5, size),
  ):
    status, headers, body = client.send("GET", f"/audio/{name}", Range=f"bytes={asked}")
    assert (status, body) == (206, whole[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{size}"
  assert client.send("GET", f"/audio/{name}", Range=f"bytes={size}-")[0] == 416
  for malformed in ("bytes=", "bytes=x-y", "bytes=5-2", "lines=1-2", "bytes=--5", "=", "bytes=1-2,1-2,x"):
    assert client.send("GET", f"/audio/{name}", Range=malformed)[0] in (200, 206, 400, 416)
  assert client.send("HEAD", f"/audio/{name}")[0] == 200
  assert len({client.send("HEAD", f"/audio/{n}")[1]["Last-Modified"] for n in study[1].audio_names()}) == 1


def test_the_export_needs_the_token(server, study):
  client = Client(server).begin()
  client.answer(client.state(), 1)
  token = server.token
  for given in (
    {},
    *({"Authorization": v} for v in ("", token, "Bearer", "Bearer ", f"Bearer {token}x", "Bearer é")),
  ):
    given = {name: value.encode() for name, value in given.items()}
    status, headers, body = client.send("GET", "/admin/export.csv", **given)
    assert status == 401 and headers["WWW-Authenticate"] == "Bearer" and b"rater" not in body
  assert client.send("GET", f"/admin/export.csv?token={token}")[0] == 401
  path = study[0] / "admin_token"
  assert path.read_text().strip() == token and len(token) >= 40
  assert stat.S_IMODE(path.stat().st_mode) == 0o600
  assert client.export()


def test_headers(server, study):
  client = Client(server)
  name = next(iter(study[1].audio_names()))
  for path in ("/", "/static/study.js", "/api/state", f"/audio/{name}", "/nothing", "/admin/export.csv"):
    headers = client.send("GET", path)[1]
    assert headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert (headers["X-Content-Type-Options"], headers["Referrer-Policy"]) == ("nosniff", "no-referrer")
    assert "Server" not in headers
  assert client.send("GET", "/api/state")[1]["Cache-Control"] == "no-store"
  cookie = client.send("POST", "/api/consent", {})[1]["Set-Cookie"]
  assert all(flag in cookie for flag in COOKIE_FLAGS) and "Secure" not in cookie
  behind_tls = client.send("POST", "/api/consent", {}, X_Forwarded_Proto="https")[1]["Set-Cookie"]
  assert "Secure" in behind_tls


def test_an_earlier_study_with_too_few_trials(make):
  """It was made when checks and trials shared their clips."""
  folder, study = make()
  dataclasses.replace(study, settings=dataclasses.replace(study.settings, trials_per_rater=30)).write(folder)
  with pytest.raises(InputError, match="--trials_per_rater=30: the study has only 36 trials, and 24 without"):
    listening_server.serve(folder, "127.0.0.1", port=99_999)


def test_headphones_can_be_required(make, serve):
  folder, study = make(require_headphones=True)
  server = serve(folder)
  quiet = {tone.id: tone.quiet for tone in study.tones}
  for wrong, stage in ((1, "trial"), (2, "no_headphones")):
    client = Client(server)
    assert client.state()["headphones"] is True
    client.cookie = client.send("POST", "/api/consent", {})[1]["Set-Cookie"].partition(";")[0]
    for number in range(6):
      trial = client.state()["trial"]
      choice = (quiet[trial] + (number < wrong)) % 3
      client.post("/api/headphones", {"trial": trial, "choice": choice})
    assert client.state()["stage"] == stage


@pytest.mark.slow
def test_a_server_killed_between_answers(make, serve):
  """kill -9 after every third answer, some of them sent again because nobody knows: each is there once."""
  folder, _ = make(trials_per_rater=10, checks_per_rater=2)
  server = serve(folder)
  client = Client(server).begin()
  given = {}
  for number in range(12):
    state = client.state()
    assert state["number"] == number + 1
    answer = number % 5 - 2
    given[state["trial"]] = str(answer)
    assert client.answer(state, answer)[0] == 200
    if number % 3 == 2:
      server.kill()
      with pytest.raises(OSError):
        client.state()
      server = client.server = serve(folder, port=server.port)
      status, body = client.answer(state, answer)
      assert (status, body["outcome"]) == (200, "repeated")
  assert client.state() == {"stage": "done"}
  assert {row["trial"]: row["answer"] for row in client.export()} == given and len(client.export()) == 12


@pytest.mark.slow
def test_killed_while_many_answer(make, serve):
  """What a client was told is saved, is saved."""
  folder, _ = make(trials_per_rater=30, checks_per_rater=0)
  server = serve(folder)
  clients = [Client(server).begin() for _ in range(4)]
  told = []

  def answer_on(client):
    try:
      while (state := client.state())["stage"] == "trial":
        if client.answer(state, 1)[0] == 200:
          told.append(state["trial"])
        if len(told) == 25:
          server.process.kill()
    except (OSError, http.client.HTTPException, ValueError):
      return

  with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(answer_on, clients))
  server.kill()
  rows = Client(serve(folder, port=server.port)).export()
  saved = [(row["rater"], row["trial"]) for row in rows]
  assert len(set(saved)) == len(saved)
  trials = [trial for _, trial in saved]
  assert all(trials.count(trial) >= told.count(trial) for trial in told)
  assert len(told) >= 25 and len(told) <= len(saved) <= len(told) + 4


@pytest.mark.slow
def test_two_hundred_trials_in_a_row(sources, tmp_path, serve):
  mixes = list(sources.systems.values())
  seven = {f"system {index}": mixes[index % 3] for index in range(7)}
  sources = dataclasses.replace(sources, systems=seven, reference="system 0")
  make_study(tmp_path, sources, Settings(trials_per_rater=200, checks_per_rater=1), seed=0)
  client = Client(serve(tmp_path)).begin()
  for number in range(201):
    state = client.state()
    assert state["number"] == number + 1
    assert client.answer(state, number % 5 - 2)[0] == 200
  assert client.state() == {"stage": "done"}
  rows = client.export()
  assert len({row["trial"] for row in rows}) == len(rows) == 201
  pairs = collections.Counter((row["system_a"], row["system_b"]) for row in rows if row["kind"] == "trial")
  assert len(pairs) == 21 and set(pairs.values()) == {9, 10}
