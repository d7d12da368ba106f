"""The page at `/` in a real browser, before a real cluster: the demo model, and two oracles that take their time."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from agent.state import ClusterState, StateDir
from tests.support.browser import Watched, browser, require_chromium
from tests.support.lepton_up import ANY_PORTS, cluster_for_a_file
from tests.support.patience import PATIENCE_S
from tests.support.processes import DEMO_MODEL, ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.etcd]

ENV = {
    **{k: v for k, v in os.environ.items() if not k.startswith(("LEPTON_", "OTEL_"))},
    "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "common" / "gen"))),
}
SUM = "What is 27 + 35?"
ANSWER = "27 + 35 = 62"
SLOW = "oracle"
EVIL = '<img src="x" onerror="window.evil = true"><b>bold</b>'

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 640}


@dataclass(frozen=True, slots=True)
class Site:
    """A cluster with a page."""

    url: str
    state: ClusterState
    oracles: dict[str, subprocess.Popen[bytes]]

    def pid(self, name: str) -> int:
        now = StateDir(Path(self.state.trace_dir or "").parent).read()
        assert now is not None
        return next(one.pid for one in now.processes if one.name == name and one.pid)


@pytest.fixture(scope="module", name="site")
def _site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    require_chromium()
    folder = tmp_path_factory.mktemp("page")
    oracles: dict[str, subprocess.Popen[bytes]] = {}
    with cluster_for_a_file(folder, *ANY_PORTS, "--workers", "1") as state:
        try:
            for name in ("slow1", "slow2"):
                oracles[name] = _oracle(name, state)
            yield Site(f"http://{state.http_address}", state, oracles)
        finally:
            for oracle in oracles.values():
                oracle.kill()
                oracle.wait()


def _oracle(name: str, state: ClusterState) -> subprocess.Popen[bytes]:
    flags = {
        "model-dir": str(DEMO_MODEL),
        "engine": "oracle",
        "model-name": SLOW,
        "id": name,
        "port": "0",
        "discovery.etcd-endpoints": ",".join(state.etcd_endpoints),
        "telemetry.trace-dir": str(state.trace_dir),
        "oracle.step-ms": "40",
    }
    return subprocess.Popen(
        [*(sys.executable, "-m", "worker"), *(f"--{key}={value}" for key, value in flags.items())],
        cwd=ROOT,
        env={**ENV, "LEPTON_CLUSTER_TOKEN": state.token.get_secret_value()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module", name="chromium")
def _chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(name="open_page")
def _open_page(site: Site, chromium: Browser) -> Iterator[Any]:
    """Opens the page; at the end no page may have complained."""
    contexts = []
    watched = []

    def open_page(**options: Any) -> Page:
        context = chromium.new_context(**{"viewport": DESKTOP, **options})
        context.set_default_timeout(1000 * PATIENCE_S)
        contexts.append(context)
        page = context.new_page()
        watched.append(Watched(page))
        page.goto(site.url)
        expect(page.locator("#health")).to_have_attribute("data-state", "good")
        expect(page.locator("#model option")).to_have_count(2)
        return page

    expect.set_options(timeout=1000 * PATIENCE_S)
    yield open_page
    for context in contexts:
        assert context.cookies() == []
        context.close()
    assert [complaint for one in watched for complaint in one.complaints] == []


def _ask(page: Page, text: str) -> Page:
    page.locator("#draft").fill(text)
    page.locator("#draft").press("Enter")
    return page


def _answered(page: Page) -> str:
    """The text of the last answer, once it is whole."""
    last = page.locator(".turn").last.locator(".answer")
    expect(last).to_have_attribute("aria-busy", "false")
    return last.locator(".prose").inner_text()


def test_a_question_is_answered_and_its_figures_and_trace_are_shown(open_page: Any) -> None:
    page = open_page()
    page.select_option("#model", "demo")
    assert _answered(_ask(page, SUM)) == ANSWER
    expect(page.locator("#ttft")).to_have_text(re.compile(r"^[\d.]+ ?m?s$"))
    expect(page.locator("#speed")).to_contain_text("tokens/s")
    expect(page.locator("#tokens")).to_have_text(re.compile(r"^11after \d+ read$"))
    expect(page.locator("#worker")).to_have_text("w1")
    expect(page.locator("#finish")).to_have_text("end of the answer")
    expect(page.locator("#request-id")).not_to_have_text("–")
    names = page.locator("#trace .name")
    expect(names.filter(has_text="prefill")).to_have_count(1)
    expect(names.filter(has_text="worker w1")).to_have_count(1)
    row = page.locator("#trace details", has=page.get_by_text("worker w1", exact=True))
    row.locator("summary").click()
    expect(row.locator("dl")).to_contain_text("gen_ai.usage.output_tokens")


def test_a_conversation_goes_on_is_retried_and_cleared(open_page: Any) -> None:
    page = open_page()
    page.select_option("#model", "demo")
    _answered(_ask(page, SUM))
    with page.expect_request("**/v1/chat/completions") as asked:
        _ask(page, "And plus 10?")
    assert [one["role"] for one in asked.value.post_data_json["messages"]] == [
        "user",
        "assistant",
        "user",
    ]
    assert _answered(page) == "62 + 10 = 72"
    with page.expect_request("**/v1/chat/completions") as again:
        page.get_by_role("button", name="Retry").click()
    assert again.value.post_data_json == asked.value.post_data_json
    assert _answered(page) == "62 + 10 = 72"
    page.get_by_role("button", name="Clear").click()
    expect(page.locator(".turn")).to_have_count(0)
    expect(page.locator("#welcome")).to_be_visible()


def test_settings_reach_the_request(open_page: Any) -> None:
    page = open_page()
    page.select_option("#model", "demo")
    schema = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
    fields = {
        "#system": "Help people.",
        "#temperature": "0.7",
        "#top_p": "0.9",
        "#max_tokens": "64",
        "#seed": "7",
        "#stop": "§\nnone of this",
        "#schema": json.dumps(schema),
    }
    for field, value in fields.items():
        page.fill(field, value)
    with page.expect_request("**/v1/chat/completions") as asked:
        _ask(page, "Give me the name as JSON: Yesterday I met Mara in Oslo.")
    sent = asked.value.post_data_json
    assert sent == {
        "model": "demo",
        "messages": [
            {"role": "system", "content": "Help people."},
            {"role": "user", "content": "Give me the name as JSON: Yesterday I met Mara in Oslo."},
        ],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 64,
        "seed": 7,
        "stop": ["§", "none of this"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": schema},
        },
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert json.loads(_answered(page)).keys() == {"name"}
    page.get_by_role("button", name="Back to defaults").click()
    page.fill("#max_tokens", "3")
    _answered(_ask(page, SUM))
    expect(page.locator("#finish")).to_have_text("token limit")


def test_the_stop_button_stops_and_the_worker_with_it(open_page: Any) -> None:
    page = open_page()
    page.select_option("#model", SLOW)
    _ask(page, "for ever")
    expect(page.locator(".prose")).not_to_be_empty()
    busy = page.locator("#workers li", has_text=re.compile("1 of "))
    expect(busy).to_have_count(1)
    expect(busy.locator(".speed")).not_to_have_text("idle")
    page.get_by_role("button", name="Stop", exact=True).click()
    assert _answered(page)
    expect(page.locator("#finish")).to_have_text("you")
    expect(busy).to_have_count(0)


def test_everything_can_be_done_from_the_keyboard(open_page: Any) -> None:
    page = open_page()
    page.locator("body").press("Tab")  # from the message box, where it begins
    keyboard = page.keyboard
    seen = []
    for _ in range(40):
        focused = page.evaluate(
            "() => { const a = document.activeElement; const s = getComputedStyle(a);"
            " const known = a.id === 'draft' || a === document.body;"  # a ring around its card; nothing
            " return [a.id || a.textContent.trim(), known || s.outlineStyle !== 'none']; }"
        )
        seen.append(focused[0])
        assert focused[1], f"nobody sees that {focused[0]} has the focus"
        keyboard.press("Tab")
    for name in ("model", "system", "temperature", "schema", "draft", "theme", "show-code"):
        assert name in seen
    page.locator("#model").focus()
    keyboard.type(SLOW[:3])
    page.locator("#draft").focus()
    keyboard.type("one")
    keyboard.press("Shift+Enter")
    keyboard.type("two")
    keyboard.press("Enter")
    expect(page.locator(".question")).to_contain_text("one\ntwo")
    expect(page.locator(".prose")).not_to_be_empty()
    keyboard.press("Escape")
    _answered(page)
    expect(page.locator("#finish")).to_have_text("you")
    expect(page.locator("#draft")).to_be_focused()


def test_text_of_users_and_models_stays_text(open_page: Any) -> None:
    page = open_page()
    page.select_option("#model", "demo")
    text = f"```html\n{EVIL}\n```\n{EVIL}"
    page.fill("#schema", json.dumps({"const": EVIL}))
    answer = _answered(_ask(page, text))
    assert json.loads(answer) == EVIL
    assert page.locator(".question").inner_text().endswith(EVIL)
    assert page.locator("#log img, #log b").count() == 0
    assert page.evaluate("window.evil") is None


def test_the_policy_holds_even_against_a_script_of_ours(open_page: Any) -> None:
    page = open_page().context.new_page()  # one that may complain
    page.goto(open_page().url)
    for attempt, refused in (
        ("document.body.innerHTML = '<b>bold</b>'", "TypeError"),
        ("setTimeout('window.evil = true', 0)", "TypeError"),
    ):
        told = page.evaluate(f"() => {{ try {{ {attempt}; }} catch (e) {{ return e.name; }} }}")
        assert told == refused, attempt
    page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.setAttribute("nonce", "guessed");
          script.append("window.evil = true");
          document.body.append(script);
        }"""
    )
    assert page.evaluate("window.evil") is None


def test_code_in_an_answer_stands_apart_however_it_is_cut(open_page: Any) -> None:
    page = open_page()
    text = "Before\n```python\nprint('<b>')\n```\nafter ``` and `x`\n``` \n[not closed"
    shown = page.evaluate(
        """async (text) => {
          const { Prose } = await import("/page/prose.js");
          return [1, 2, 3, 5, text.length].map((size) => {
            const root = document.createElement("div");
            const prose = new Prose(root);
            for (let i = 0; i < text.length; i += size) prose.push(text.slice(i, i + size));
            prose.end();
            return [...root.children].map((c) => [c.tagName, (c.querySelector("code") ?? c).textContent]);
          });
        }""",
        text,
    )
    whole = [
        ["P", "Before\n"],
        ["DIV", "print('<b>')\n"],
        ["P", "after ``` and `x`\n"],
        ["DIV", "[not closed"],
    ]
    assert shown == [whole] * 5


def test_the_request_as_code_does_what_the_page_does(open_page: Any) -> None:
    page = open_page()
    page.select_option("#model", "demo")
    page.fill("#system", "Don't say \"no\"; it's \\ fine.\n${HOME} `x`")
    page.fill("#seed", "7")
    page.fill("#schema", json.dumps({"enum": ["it's", True, None, {"a": [1]}]}))
    page.fill("#draft", SUM)
    page.get_by_role("button", name="As code").click()
    curl = page.locator("#code-text").inner_text()
    page.get_by_role("button", name="Python").click()
    program = page.locator("#code-text").inner_text()
    page.keyboard.press("Escape")
    expect(page.locator("#code")).to_be_hidden()

    env = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()}
    streamed = subprocess.run(
        ["bash", "-c", curl.replace("curl ", "curl -sS ", 1)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        env=env,
    ).stdout
    assert streamed.rstrip().endswith("data: [DONE]")
    printed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
        env=env,
    ).stdout
    with page.expect_request("**/v1/chat/completions"):
        page.locator("#draft").press("Enter")
    assert json.loads(printed) == json.loads(_answered(page))


def test_a_stream_that_moves_says_where_to(open_page: Any, site: Site) -> None:
    page = open_page()
    page.select_option("#model", SLOW)
    _ask(page, "move")
    expect(page.locator("#worker")).to_have_text(re.compile(r"^slow\d$"))
    first = page.locator("#worker").inner_text()
    site.oracles[first].kill()
    site.oracles[first].wait()
    other = "slow2" if first == "slow1" else "slow1"
    expect(page.locator("#worker")).to_have_text(f"{first} → {other}")
    expect(page.locator(".moved")).to_have_text(
        f"{first} went away; {other} goes on. Nothing was lost."
    )
    expect(page.locator(f"#workers li[data-worker={first}]")).not_to_have_attribute(
        "data-state", "ready"
    )
    page.keyboard.press("Escape")
    _answered(page)
    site.oracles[first] = _oracle(first, site.state)
    expect(page.locator(f"#workers li[data-worker={first}]")).to_have_attribute(
        "data-state", "ready"
    )


def test_refusals_say_what_to_do(open_page: Any) -> None:
    page = open_page()
    page.select_option("#model", "demo")
    page.fill("#schema", "{")
    _ask(page, SUM)
    expect(page.locator("#schema-problem")).to_contain_text("This is no JSON")
    expect(page.locator("#schema")).to_be_focused()
    expect(page.locator(".turn")).to_have_count(0)
    page.fill("#schema", "")
    page.fill("#temperature", "99")
    page.locator("#draft").press("Enter")
    failure = page.locator(".failure")
    expect(failure).to_contain_text("A setting is not allowed")
    expect(failure).to_contain_text("field_out_of_range")
    expect(page.locator("#temperature")).to_have_attribute("aria-invalid", "true")
    page.fill("#temperature", "")
    page.get_by_role("button", name="Retry").click()
    assert _answered(page) == ANSWER
    expect(failure).to_have_count(0)


def test_a_dead_cluster_is_shown_and_the_page_goes_on_by_itself(open_page: Any, site: Site) -> None:
    page = open_page()
    page.select_option("#model", "demo")
    router = site.pid("router")
    os.kill(router, signal.SIGSTOP)  # it listens and says nothing, the worst of both
    try:
        expect(page.locator("#health")).to_have_attribute("data-state", "away")
    finally:
        os.kill(router, signal.SIGKILL)
    _ask(page, SUM)
    expect(page.locator(".failure")).to_contain_text("The cluster does not answer")
    expect(page.locator("#health")).to_have_attribute("data-state", "good")
    page.get_by_role("button", name="Retry").click()
    assert _answered(page) == ANSWER


def test_nobody_is_asked_while_nobody_looks(open_page: Any) -> None:
    page = open_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    page.wait_for_timeout(1500)
    asked.clear()
    page.wait_for_timeout(1500)
    assert asked == []
    with page.expect_request("**/api/cluster"):
        page.evaluate(hide, False)


def test_a_phone_shows_everything_in_one_column(open_page: Any) -> None:
    page = open_page(viewport=PHONE, has_touch=True, is_mobile=True, reduced_motion="reduce")
    page.locator("nav").get_by_role("button", name="Settings").tap()
    page.select_option("#model", "demo")
    page.locator("nav").get_by_role("button", name="Chat").tap()
    _answered(_ask(page, f"{SUM} {'w' * 300}"))
    for view in ("Chat", "Settings", "Cluster"):
        page.locator("nav").get_by_role("button", name=view).tap()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        small = page.evaluate(
            """() => [...document.querySelectorAll("button, input, select, textarea, a, summary")]
              .filter((e) => e.checkVisibility() && !e.closest(".skip"))
              .map((e) => [e.id || e.textContent, e.getBoundingClientRect()])
              .filter(([, box]) => box.height < 43.5 || box.width < 43.5).map(([name]) => name)"""
        )
        assert small == [], view
    moving = "getComputedStyle(document.querySelector('.answer'), '::after').animationName"
    assert page.evaluate(moving) == "none"


CONTRAST = """() => {
  const parse = (c) => {
    const canvas = new OffscreenCanvas(1, 1).getContext("2d");
    canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (parse(c)[3] === 255) return parse(c);
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!own || !e.checkVisibility() || e.closest(".unseen, .skip, noscript, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) found.push([e.textContent.trim().slice(0, 40), ratio.toFixed(2)]);
  }
  return found;
}"""


def test_dark_and_light_are_the_systems_choice_until_somebody_switches(open_page: Any) -> None:
    page = open_page(color_scheme="dark")
    page.select_option("#model", "demo")
    _answered(_ask(page, SUM))
    expect(page.locator("#trace li").first).to_be_visible()
    paper = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(paper)
    assert page.evaluate(CONTRAST) == []
    page.emulate_media(color_scheme="light")
    light = page.evaluate(paper)
    assert light != dark
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("button", name="Switch between dark and light").click()
    assert page.evaluate(paper) == dark
    page.reload()
    assert page.evaluate(paper) == dark
