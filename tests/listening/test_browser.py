"""The page in a real browser: Chromium and its driver. SINGSONG_NO_BROWSER=1 leaves this file out."""

import json
import shutil
import time
import urllib.request

import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

pytestmark = pytest.mark.slow

DESKTOP, PHONE = (1280, 900), (390, 844)
FLAGS = (
  "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
  "--disable-component-update --disable-sync --autoplay-policy=no-user-gesture-required"
)


class Page:
  """What a rater sees and does."""

  def __init__(self, driver):
    self.driver = driver

  def text(self, name):
    return self.driver.find_element(By.ID, name).text

  def wait(self, condition, seconds=30):
    return WebDriverWait(self.driver, seconds, poll_frequency=0.05).until(lambda _: condition())

  def wait_for(self, progress):
    self.wait(lambda: self.text("progress_text") == progress)

  def sounds(self):
    """Addresses of what can be played now."""
    return self.driver.execute_script("return players.map((player) => player.audio.src)")

  def hurry(self):
    """Sounds play fast: no test should take as long as a rater."""
    self.driver.execute_script("players.forEach((player) => { player.audio.playbackRate = 8; })")

  def press(self, *keys):
    for key in keys:
      ActionChains(self.driver).send_keys(key).perform()

  def heard(self, index):
    self.wait(lambda: self.driver.execute_script(f"return players[{index}].enough()"))

  def play_all(self):
    """Plays every sound with the buttons."""
    self.hurry()
    for index, button in enumerate(self.driver.find_elements(By.CSS_SELECTOR, ".play")):
      button.click()
      self.heard(index)

  def choose(self, number):
    self.driver.find_elements(By.CSS_SELECTOR, ".choice")[number - 1].click()

  def next(self):
    self.driver.find_element(By.CSS_SELECTOR, "#form .main").click()

  def begin(self):
    """Consents and checks the headphones; the first comparison waits."""
    button = self.driver.find_element(By.ID, "begin")
    self.wait(button.is_displayed)
    button.click()
    for number in range(1, 7):
      self.wait_for(f"Headphone check {number} of 6")
      self.play_all()
      self.choose(1)
      self.next()
    self.wait_for("Comparison 1 of 6")


@pytest.fixture
def browse(tmp_path):
  """Opens pages, each in a browser of its own with an empty profile."""
  missing = [name for name in ("chromium", "chromedriver") if not shutil.which(name)]
  if missing:
    pytest.fail(
      f"no {' and '.join(missing)}: apt-get install chromium chromium-driver; or leave this file out with "
      "SINGSONG_NO_BROWSER=1"
    )
  drivers = []

  def opened(url, size, cookies=True):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in FLAGS.split():
      options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path / f'profile{len(drivers)}'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not cookies:
      options.add_experimental_option("prefs", {"profile.default_content_setting_values.cookies": 2})
    if size == PHONE:
      metrics = {"width": PHONE[0], "height": PHONE[1], "pixelRatio": 2.0, "touch": True}
      options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    drivers.append(driver)
    driver.set_window_size(*size)
    if size == PHONE:  # an older one
      script = {"source": "delete AbortSignal.timeout"}
      driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script)
    driver.get(url)
    return Page(driver)

  yield opened
  for driver in drivers:
    driver.quit()


def answers(server):
  request = urllib.request.Request(
    f"{server.url}/admin/export.csv", headers={"Authorization": f"Bearer {server.token}"}
  )
  with urllib.request.urlopen(request) as response:
    lines = response.read().decode().splitlines()
  header = lines[0].split(",") if lines else []
  return [dict(zip(header, line.split(","), strict=True)) for line in lines[1:]]


def test_with_the_keyboard_alone(browse, make, serve, request):
  folder, study = make()
  server = serve(folder)
  page = browse(server.url, DESKTOP)
  page.wait(page.driver.find_element(By.ID, "begin").is_displayed)
  screenshot(page, request, "consent")
  page.press(Keys.TAB, Keys.ENTER)
  for number in range(1, 7):
    page.wait_for(f"Headphone check {number} of 6")
    page.hurry()
    page.press(" ")
    page.heard(0)
    if number == 1:
      screenshot(page, request, "headphones")
    page.press("3", Keys.ENTER)
  for number in range(1, 7):
    page.wait_for(f"Comparison {number} of 6")
    page.hurry()
    page.press("5", Keys.ENTER)  # before anything was played
    assert page.text("missing").startswith("Please listen to Option 1 and Option 2 first")
    for index, key in enumerate("vab"):
      page.press(key)
      page.press(*([] if index else [" "]))  # what plays goes on with what is selected
      page.heard(index)
    page.press(" ")
    assert page.driver.execute_script("return players.every((player) => player.audio.paused)")
    if number == 2:
      screenshot(page, request, "trial")
    page.press(str(min(number, 5)), Keys.ENTER)
  page.wait(lambda: "Thank you!" in page.text("done"))
  assert [row["answer"] for row in answers(server)] == ["-2", "-1", "0", "1", "2", "2"]
  assert all(float(row["listened_left"]) >= 0.5 for row in answers(server))
  assert nothing_told(page, folder, study)


def test_on_a_phone_with_a_double_tap_and_a_reload(browse, make, serve, request):
  folder, _ = make()
  server = serve(folder)
  page = browse(server.url, PHONE)
  page.begin()
  assert not page.driver.execute_script("return document.documentElement.scrollWidth > window.innerWidth")
  small = "button.play, .choice, .main"
  heights = f"return [...document.querySelectorAll('{small}')].map((e) => e.getBoundingClientRect().height)"
  assert min(height for height in page.driver.execute_script(heights) if height) >= 44
  page.play_all()
  page.choose(4)
  screenshot(page, request, "trial")
  # Two submissions before the first answer can be back, and two clicks besides
  page.driver.execute_script("submit(); submit(); document.querySelector('#form .main').click();")
  page.wait_for("Comparison 2 of 6")
  assert len(answers(server)) == 1
  before = page.sounds()
  page.driver.refresh()
  page.wait_for("Comparison 2 of 6")
  assert page.sounds() == before
  for number in range(2, 7):
    page.wait_for(f"Comparison {number} of 6")
    page.play_all()
    page.choose(2)
    button = page.driver.find_element(By.CSS_SELECTOR, "#form .main")
    ActionChains(page.driver).double_click(button).perform()
  page.wait(lambda: "Thank you!" in page.text("done"))
  assert [row["answer"] for row in answers(server)] == ["1", *["-1"] * 5]


def test_a_server_that_is_killed(browse, make, serve, request):
  folder, _ = make()
  server = serve(folder)
  page = browse(server.url, DESKTOP)
  page.begin()
  page.play_all()
  page.choose(1)
  server.kill()
  page.next()
  page.wait(lambda: "Connection lost. Your answer is kept" in page.text("trouble"))
  # Another answer would be lost: none can be given
  page.choose(5)
  page.press("4")
  assert page.driver.execute_script("return choice().value") == "-2"
  screenshot(page, request, "lost")
  time.sleep(1)
  server = serve(folder, port=server.port)
  page.wait_for("Comparison 2 of 6")
  assert page.text("trouble") == ""
  assert [row["answer"] for row in answers(server)] == ["-2"]
  # Killed while the next sounds are not loaded yet: they are, later
  server.kill()
  page.driver.execute_script("players.forEach((player) => { player.audio.src += '?again'; })")
  page.wait(lambda: "cannot be loaded" in page.text("trouble"))
  server = serve(folder, port=server.port)
  page.wait(lambda: page.text("trouble") == "")
  page.play_all()
  page.choose(4)
  page.press("5")
  page.next()
  page.wait_for("Comparison 3 of 6")
  assert [row["answer"] for row in answers(server)] == ["-2", "2"]


def test_answers_that_are_not_taken(browse, make, serve, request):
  """Given in another window before, or without the cookie: the page says so."""
  folder, _ = make()
  server = serve(folder)
  page = browse(server.url, DESKTOP)
  page.begin()
  page.play_all()
  page.choose(3)
  page.driver.execute_async_script(
    "const done = arguments[0];"
    "fetch('/api/answer', {method: 'POST', headers: {'Content-Type': 'application/json'},"
    " body: JSON.stringify(kind.body(shown.trial, -2, [0, 1, 1]))}).then(done);"
  )
  page.next()
  page.wait_for("Comparison 2 of 6")
  assert "answered before" in page.text("trouble")
  assert [row["answer"] for row in answers(server)] == ["-2"]
  page.play_all()
  page.choose(3)
  page.driver.delete_all_cookies()
  page.next()
  page.wait(page.driver.find_element(By.ID, "begin").is_displayed)
  assert "could not be saved: this browser lost the study’s cookie" in page.text("trouble")
  screenshot(page, request, "cookie_lost")
  page.driver.find_element(By.ID, "begin").click()
  page.wait_for("Headphone check 1 of 6")
  assert page.text("trouble") == ""


def test_a_browser_that_keeps_no_cookies(browse, make, serve):
  folder, _ = make()
  server = serve(folder)
  page = browse(server.url, DESKTOP, cookies=False)
  button = page.driver.find_element(By.ID, "begin")
  page.wait(button.is_displayed)
  button.click()
  page.wait(lambda: "This study needs a cookie" in page.text("trouble"))
  assert page.driver.execute_script("return shown.stage") == "consent" and not button.is_displayed()


def nothing_told(page, folder, study):
  """Nothing that the browser holds names a system or a clip, and it had nothing to complain about."""
  html = page.driver.page_source
  assert not [name for name in (*study.systems, "song ") if name in html]
  assert "systems" not in json.dumps(page.driver.execute_script("return shown"))
  logged = [entry["message"] for entry in page.driver.get_log("browser")]
  return not [message for message in logged if "favicon" not in message]


def screenshot(page, request, name):
  """Kept with the test's other files, to be looked at."""
  kind = "phone" if "phone" in request.node.name else "desktop"
  path = request.getfixturevalue("tmp_path") / f"study_{kind}_{name}.png"
  assert page.driver.save_screenshot(str(path))
