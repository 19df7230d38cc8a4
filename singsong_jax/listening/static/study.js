// The page of the listening study. The server decides what is shown; this shows it, and sends answers until they arrive.
"use strict";

const COMPARISON = {
  title: "Listen to the singing, then to both options",
  prompt:
    "Which of these accompaniments sounds like it was created for the singing? Don’t pay attention to audio quality, " +
    "but focus on which music sounds like it fits best with the singing (having similar rhythm and harmony).",
  legend: "Your answer",
  players: [["Vocals", "v"], ["Option 1", "a"], ["Option 2", "b"]],
  choices: [
    ["Option 1 much better", -2], ["Option 1 better", -1], ["About the same", 0],
    ["Option 2 better", 1], ["Option 2 much better", 2],
  ],
  above: 1, // so many players stand above the question
  url: "/api/answer",
  body: (trial, choice, listened) => ({ trial, answer: choice, listened }),
};
const HEADPHONES = {
  title: "Headphone check: which tone is the quietest?",
  prompt: "You will hear three tones. Choose the quietest.",
  legend: "The quietest was",
  players: [["Tones", "v"]],
  choices: [["First tone", 0], ["Second tone", 1], ["Third tone", 2]],
  above: 0,
  url: "/api/headphones",
  body: (trial, choice) => ({ trial, choice }),
};
const CONSENT = "/api/consent";
const NO_COOKIE = "This study needs a cookie, and this browser did not keep it. Please allow cookies, then reload this page.";
const NOT_TAKEN = { // status → why
  409: "This one was answered before: that answer stays.",
  403: "That answer could not be saved: this browser lost the study’s cookie. Please allow cookies, and begin again.",
  other: "That answer could not be saved. Please answer what is shown now.",
};
const TONES_SECONDS = 3; // of 4: the beginning of the last tone
const LONGEST_WAIT_MS = 15000, REQUEST_MS = 10000;

const $ = (id) => document.getElementById(id);
let shown = null; // the state on the page
let kind = null; // COMPARISON or HEADPHONES, when one of these is shown
let players = [];
let selected = 0; // the player that the space bar plays
let sending = false;

// ---- The connection

const troubles = new Map(); // who has trouble → text

function setTrouble(who, text) {
  if (text) troubles.set(who, text); else troubles.delete(who);
  const all = [...troubles.values()].join(" ");
  $("trouble").hidden = !all;
  if ($("trouble").textContent !== all) $("trouble").textContent = all;
}

function pause(attempt) { // longer each time, at random so that not all browsers come back at once, or when online again
  const wait = Math.min(LONGEST_WAIT_MS, 500 * 2 ** attempt) * (0.5 + Math.random() / 2);
  return new Promise((resolve) => {
    const timer = setTimeout(done, wait);
    function done() {
      clearTimeout(timer);
      window.removeEventListener("online", done);
      resolve();
    }
    window.addEventListener("online", done);
  });
}

async function request(url, body) { // resolves when the server has answered, however long that takes
  const options = body === undefined
    ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  for (let attempt = 0; ; attempt++) {
    const controller = new AbortController(); // not AbortSignal.timeout, which older phones lack
    const timer = setTimeout(() => controller.abort(), REQUEST_MS);
    try {
      const response = await fetch(url, { ...options, signal: controller.signal });
      if (response.status < 500 && response.status !== 429) {
        const found = await response.json();
        setTrouble("request", "");
        return { status: response.status, ...found };
      }
    } catch { /* no connection, or it broke: once more */ } finally { clearTimeout(timer); }
    setTrouble("request", body === undefined
      ? "No connection to the study. Trying again …"
      : "Connection lost. Your answer is kept, and sent as soon as the connection is back …");
    await pause(attempt);
  }
}

async function post(url, body) {
  if (sending) return;
  setSending(true);
  let { status, state } = await request(url, body);
  // Begin where the server is. After consent, too: it knows the browser again only if that kept the cookie.
  if (url === CONSENT || (status >= 400 && status !== 409)) state = await request("/api/state");
  show(state);
  const noCookie = url === CONSENT && state.stage === "consent";
  if (noCookie) $("begin").hidden = true; // each press would make another rater
  setTrouble("answer", noCookie ? NO_COOKIE : status >= 400 ? NOT_TAKEN[status] ?? NOT_TAKEN.other : "");
  setSending(false);
}

function setSending(on) { // what is being sent must stay what is shown
  sending = on;
  for (const element of document.querySelectorAll(".main, fieldset")) element.disabled = on;
}

function tell(text) { $("news").textContent = text; }

// ---- Players

class Player {
  constructor(name, key, url, needed) {
    this.root = $("player").content.firstElementChild.cloneNode(true);
    this.name = name;
    this.needed = needed; // seconds to be played before an answer
    const find = (selector) => this.root.querySelector(selector);
    [this.audio, this.button, this.slider, this.time] = [find("audio"), find(".play"), find("input"), find(".time")];
    this.root.setAttribute("aria-label", name);
    find(".name").textContent = name;
    this.button.setAttribute("aria-keyshortcuts", key);
    this.slider.setAttribute("aria-label", `Position in ${name}`);
    this.attempt = 0;
    this.audio.src = url;
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => { this.audio.currentTime = Number(this.slider.value); });
    for (const event of ["timeupdate", "durationchange", "play", "pause", "ended", "seeked"]) {
      this.audio.addEventListener(event, () => this.draw());
    }
    this.audio.addEventListener("error", () => this.reload());
    this.audio.addEventListener("loadeddata", () => { this.attempt = 0; setTrouble(this, ""); });
    this.draw();
  }

  toggle() { if (this.audio.paused) this.play(); else this.audio.pause(); }

  play() {
    select(players.indexOf(this));
    this.audio.play().catch(() => {}); // an error of loading is dealt with by reload
  }

  async reload() { // the connection was lost while loading: go on at the same place
    const place = this.audio.currentTime, url = this.audio.src, wasPlaying = !this.audio.paused;
    setTrouble(this, `${this.name} cannot be loaded. Trying again …`);
    await pause(this.attempt++);
    if (!players.includes(this)) return;
    this.earlier = this.heard();
    this.audio.src = url; // begins to load anew
    this.audio.currentTime = place;
    if (wasPlaying) this.play();
  }

  heard() { // seconds of the sound that were played, each counted once
    const played = this.audio.played;
    let sum = 0;
    for (let i = 0; i < played.length; i++) sum += played.end(i) - played.start(i);
    return Math.max(sum, this.earlier ?? 0);
  }

  enough() { return this.heard() >= Math.min(this.needed, (this.audio.duration || Infinity) - 0.3); }

  stop() {
    this.audio.pause();
    this.audio.removeAttribute("src");
    this.audio.load(); // lets go of the connection
    setTrouble(this, "");
  }

  draw() {
    const { currentTime, duration, paused } = this.audio;
    this.root.classList.toggle("playing", !paused);
    this.root.classList.toggle("done", this.needed > 0 && this.enough());
    this.button.setAttribute("aria-label", `${paused ? "Play" : "Pause"} ${this.name}`);
    this.slider.max = duration || 1;
    this.slider.value = currentTime;
    this.time.textContent = `${clock(currentTime)} / ${clock(duration)}`;
    if ($("missing").textContent) tellMissing();
    this.slider.setAttribute("aria-valuetext", `${Math.floor(currentTime)} of ${Math.floor(duration || 0)} seconds`);
  }
}

function clock(seconds) {
  const whole = Math.floor(seconds || 0);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

function select(index) { // and silence the others
  selected = index;
  players.forEach((player, i) => {
    player.root.classList.toggle("selected", i === index);
    if (i !== index) player.audio.pause();
  });
}

// ---- What is on the page

function show(state) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = true;
  for (const player of players) player.stop();
  players = [];
  setTrouble("answer", "");
  shown = state;
  kind = { trial: COMPARISON, headphones: HEADPHONES }[state.stage];
  if (kind) showQuestion(state);
  if (state.stage === "consent") {
    $("how_many").textContent = state.of;
    $("headphones_needed").hidden = !state.headphones;
    $("checks").hidden = !state.checks;
    $("contact_line").hidden = !state.contact;
    $("contact").textContent = state.contact;
  }
  const section = $(kind ? "question" : state.stage);
  section.hidden = false;
  window.scrollTo(0, 0);
  section.querySelector("h1").focus();
}

function showQuestion(state) {
  const what = kind === COMPARISON ? "Comparison" : "Headphone check";
  $("progress_text").textContent = `${what} ${state.number} of ${state.of}`;
  $("progress").max = state.of;
  $("progress").value = state.number - 1;
  $("title").textContent = kind.title;
  $("prompt").textContent = kind.prompt;
  $("legend").textContent = kind.legend;
  $("missing").textContent = "";
  players = state.sounds.map((url, i) => {
    const needed = kind === HEADPHONES ? TONES_SECONDS : i > 0 ? state.listen_seconds : 0;
    return new Player(...kind.players[i], url, needed);
  });
  const roots = players.map((player) => player.root);
  $("above").replaceChildren(...roots.slice(0, kind.above));
  $("below").replaceChildren(...roots.slice(kind.above));
  $("choices").replaceChildren(...kind.choices.map(([text, value], i) => {
    const label = $("choice").content.firstElementChild.cloneNode(true);
    label.querySelector("input").value = value;
    label.querySelector("kbd").textContent = i + 1;
    label.querySelector("span").textContent = text;
    return label;
  }));
  const keys = [["Space", "play or pause"], ["Enter", "next"]];
  keys.push([`1 … ${kind.choices.length}`, "choose the answer of this number"]);
  if (players.length > 1) keys.push(["V, A, B", "select vocals, Option 1, Option 2"]);
  $("keys").replaceChildren(...keys.flatMap(([key, meaning]) => {
    const [term, text] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = key;
    text.textContent = meaning;
    return [term, text];
  }));
  select(0);
  tell($("progress_text").textContent);
}

function missing() { // what is to be done before the answer can be sent
  const unheard = players.filter((player) => player.needed > 0 && !player.enough());
  if (unheard.length) {
    const names = unheard.map((player) => player.name).join(" and ");
    const seconds = kind === COMPARISON ? ` (${shown.listen_seconds} seconds or more)` : "";
    return `Please listen to ${names} first${seconds}.`;
  }
  return choice() ? "" : "Please choose an answer first.";
}

function tellMissing() { if ($("missing").textContent !== missing()) $("missing").textContent = missing(); }

function choice() { return document.querySelector("input[name=choice]:checked"); }

function submit() {
  tellMissing();
  if (missing()) return;
  const listened = players.map((player) => player.heard());
  post(kind.url, kind.body(shown.trial, Number(choice().value), listened));
}

// ---- Keys

function onKey(event) {
  if (!kind || event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  const target = event.target, isButton = target.matches("button, summary");
  const radios = document.querySelectorAll("input[name=choice]");
  const key = event.key.toLowerCase();
  const player = kind.players.findIndex((entry) => entry[1] === key);
  if (radios[Number(key) - 1]) {
    if (sending) return;
    radios[Number(key) - 1].checked = true;
    radios[Number(key) - 1].focus();
    if ($("missing").textContent) tellMissing();
  } else if (player >= 0 && players.length > 1) {
    const wasPlaying = players.some((other) => !other.audio.paused);
    if (wasPlaying) players[player].play(); else select(player);
    tell(`${players[player].name} selected`);
  } else if (key === " " && !isButton && !(target.type === "radio" && !target.checked)) {
    players[selected].toggle();
  } else if (key === "enter" && !isButton) {
    submit();
  } else {
    return; // the browser's own meaning
  }
  event.preventDefault();
}

document.addEventListener("keydown", onKey);
$("begin").addEventListener("click", () => post(CONSENT, {}));
$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});
$("form").addEventListener("change", () => { if ($("missing").textContent) tellMissing(); });
request("/api/state").then(show);
