"""The viewer page and the dashboard in a real browser, on a real session. (takes long)"""

import contextlib
import json

import harness
from browser import Browser
from scripted_stt import ScriptedStt
from tokens import token

LINES = "[...document.querySelectorAll('#lines .line:not(.provisional) .words')].map((words) => words.textContent)"
N_FINALS = "document.querySelectorAll('#lines .line:not(.provisional)').length"
FOLLOWS = "(() => { const b = document.getElementById('transcript'); return b.scrollHeight - b.scrollTop - b.clientHeight < 48; })()"
# WCAG's contrast of an element's text with the page behind it.
CONTRAST = """((selector) => {
  const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const text = light(getComputedStyle(document.querySelector(selector)).color);
  const back = light(getComputedStyle(document.body).backgroundColor);
  return (Math.max(text, back) + 0.05) / (Math.min(text, back) + 0.05);
})"""

browser = None


@contextlib.contextmanager
def session(slug="room", utterance_s=1.0, final_text=None, seconds=None):
    """(node, publisher) of a session that speaks, and afterwards no page may have complained."""
    before = set(browser.pages)
    with ScriptedStt(utterance_s) as stt:
        stt.final_text = final_text or stt.final_text
        with harness.node(stt.url) as node, harness.publisher(node, slug, seconds=seconds) as publisher:
            yield node, publisher
            complaints = [page.complaints() for key, page in browser.pages.items() if key not in before]
            assert complaints and not any(complaints), complaints


def address(node, path, door="http"):
    return node.url(door, path)


def truth(node, slug="room"):
    finals = harness.http_json(node.url("http", f"/sessions/{slug}/transcript.json"))
    rows = finals["transcripts"] if isinstance(finals, dict) else finals
    return [row["text"] for row in rows]


def test_a_partial_becomes_its_final_in_place():
    with session(utterance_s=2) as (node, _):
        page = browser.page(address(node, "/?session=room"))
        seen = page.wait("""(() => {
          const line = window.kept = document.querySelector('#lines .line.provisional');
          const other = document.querySelector('#lines .line:not(.provisional) .words');
          if (!line || !other) { return null; }
          const [was, is] = [line.querySelector('.words'), other].map((words) => getComputedStyle(words));
          return [line.textContent, was.fontStyle !== is.fontStyle, was.color !== is.color];
        })()""", "a provisional line beside a final one")
        assert seen[0].endswith("utterance") and seen[1] and seen[2], seen
        text = page.wait("!kept.classList.contains('provisional') && kept.querySelector('.words').textContent", "its final")
        assert text.startswith("utterance ") and page.run("kept.isConnected"), text
        assert page.run(LINES).count(text) == 1
        page.wait("getComputedStyle(kept.querySelector('.words')).fontStyle === 'normal'", "the final's own look")


def test_only_finals_are_announced_and_each_once():
    with session() as (node, _), harness.viewer(node, "room") as viewer:
        viewer.wait_finals(2)
        page = browser.page(address(node, "/?session=room"))
        regions = "[...document.querySelectorAll('[aria-live], [role=log], [role=alert], [role=status]')]"
        page.run(f"""(() => {{
          window.said = [];
          const note = (changes) => changes.forEach((change) => {{
            const text = change.type === 'characterData' ? [change.target] : [...change.addedNodes];
            said.push(...text.map((node) => node.textContent));
          }});
          {regions}.filter((region) => region.id !== 'state').forEach((region) =>
            new MutationObserver(note).observe(region, {{childList: true, characterData: true, subtree: true}}));
        }})()""")
        page.wait("document.querySelector('.provisional')", "provisional words")
        page.wait("said.length >= 3", "three announcements")
        said = page.run("said")
        assert all(text.startswith("utterance ") for text in said) and len(set(said)) == len(said), said
        # What was said before the page came is there to read, and is not read out.
        assert page.run(LINES)[:2] == ["utterance 0", "utterance 1"]
        assert "utterance 0" not in page.run("[...document.getElementById('announcer').children].map((said) => said.textContent)")
        assert page.run(f"{regions}.every((region) => !region.contains(document.getElementById('lines')))")
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        logs = [node for node in nodes if node.get("role", {}).get("value") == "log"]
        assert [value["value"]["value"] for node in logs for value in node["properties"] if value["name"] == "live"] == ["polite"]


def test_reading_back_stops_the_scrolling():
    with session(utterance_s=0.3) as (node, _):
        page = browser.page()
        page.size(500, 420)
        page.open(address(node, "/?session=room"))
        place = "document.getElementById('transcript').scrollTop"
        page.wait(f"{place} > 200 && {FOLLOWS} && document.getElementById('jump').hidden", "the page follows")
        for come_back in (lambda: page.click("#jump"), lambda: page.key("End")):
            page.wheel(250, 200, -150)
            page.wait("!document.getElementById('jump').hidden", "the way back is offered")
            page.wait(f"(() => {{ const now = {place}; const was = window.was; window.was = now; return now === was; }})()",
                      "the wheel rests")
            count, top = page.run(f"[{N_FINALS}, {place}]")
            page.wait(f"{N_FINALS} >= {count + 3}", "three more finals")
            assert page.run(f"[{place}, {FOLLOWS}]") == [top, False]
            assert "new" in page.run("document.getElementById('jump').textContent")
            come_back()
            page.wait(f"{FOLLOWS} && document.getElementById('jump').hidden", "the page is at its end again")
            count = page.run(N_FINALS)
            page.wait(f"{N_FINALS} >= {count + 2} && {FOLLOWS}", "and follows")


def kick_viewers(node):
    body = json.dumps({"session": "room", "what": "viewers"}).encode()
    status, _, text = harness.http(node.url("admin", "/admin/kick"), method="POST", body=body)
    assert status == 200, text


def test_kicked_viewers_come_back_without_a_hole():
    with session(utterance_s=0.5, seconds=10) as (node, publisher):
        page = browser.page(address(node, "/?session=room"))
        for n_kicks in (1, 2):
            count = page.run(N_FINALS)
            page.wait(f"{N_FINALS} >= {count + 2}", "two more finals")
            kick_viewers(node)
            harness.wait_until(lambda count=n_kicks: len(page.sockets()) > count, "the page comes back")
        assert publisher.wait() == 0, publisher.errors()
        page.wait("document.getElementById('state').dataset.state === 'ended'", "the end")
        assert page.run(LINES) == truth(node) and len(truth(node)) >= 15
        assert page.run("document.querySelectorAll('.provisional, .note').length") == 0
        assert all("since=" in url for url in page.sockets()[1:]), page.sockets()


def test_what_a_page_is_told_twice_or_never_again():
    """A gap whose history comes once more, and a partial that was taken back while the page was away."""
    with session() as (node, _):
        page = browser.page(address(node, "/?session=room"))
        got = page.run("""import('/pages/transcript.js').then(({applyMessage, createTranscript}) => {
          const t = createTranscript(), shown = new Map();
          const words = (seq, id, isFinal) => ({type: 'transcript', epoch: 7, seq, utteranceId: id, isFinal, text: id});
          const hello = {type: 'hello', epoch: 7, seq: 1, state: 'live', reason: null};
          const times = {};
          for (const message of [hello, words(1, 'a', true), words(2, 'b', false), hello, words(3, 'c', true),
                                 {type: 'gap', epoch: 7, from: 1, to: null}, words(1, 'a', true), words(3, 'c', true)]) {
            for (const step of applyMessage(t, message)) {
              if (step.do === 'show') { shown.set(step.id, step.message.text); times[step.id] = (times[step.id] ?? 0) + 1; }
              if (step.do === 'remove') { shown.delete(step.id); }
            }
          }
          return {shown: [...shown.values()], times: Object.values(times), position: t.position};
        })""")
        assert got == {"shown": ["a", "c"], "times": [1, 1, 1], "position": "7.3"}, got


def test_a_session_is_picked_from_the_list():
    with session() as (node, _), harness.viewer(node, "misspelt") as viewer:
        viewer.wait_type("hello")
        page = browser.page(address(node, "/"))
        page.wait("document.querySelector('#sessions a')?.textContent.includes('Live')", "the list")
        assert page.run("[...document.querySelectorAll('#sessions .name')].map((name) => name.textContent)") == ["room"]
        page.click("#sessions a")
        page.wait(f"location.search === '?session=room' && {N_FINALS} > 0", "the session's words")
        assert page.run("document.title").startswith("room ")
        page.click("#home")
        page.wait("location.search === '' && document.querySelector('#sessions a')", "the list again")
        page.run("document.getElementById('session').focus()")
        page.type("room")
        page.key("Enter")
        page.wait(f"location.search === '?session=room' && {N_FINALS} > 0", "the session whose name was typed")


def test_a_name_that_is_none():
    with session() as (node, _):
        page = browser.page(address(node, "/?session=-bad%2Fname"))
        page.wait("document.getElementById('state').textContent.includes('not a session')", "the page says so")
        assert page.run("document.getElementById('session').value") == "-bad/name" and not page.sockets()


def test_dark_and_light():
    with session() as (node, _):
        for path, selectors in (("/?session=room", ("h1", ".line .words", ".line time", ".provisional .words", "#state", "footer a")),
                                ("/dashboard", ("h1", "#node", "tbody th", ".plot code", ".plot .figures", ".tiles dt"))):
            page = browser.page(address(node, path))
            backs = []
            for scheme in ("light", "dark"):
                page.scheme(scheme)
                for selector in selectors:
                    ratio = page.wait(f"document.querySelector({json.dumps(selector)}) && {CONTRAST}({json.dumps(selector)})",
                                      f"{selector} on {path}")
                    assert ratio >= 4.5, (path, scheme, selector, ratio)
                backs.append(page.run("getComputedStyle(document.body).backgroundColor"))
            assert backs[0] != backs[1], backs


def test_a_phone_has_nothing_beyond_its_edge():
    slug = "a-session-with-a-name-that-nobody-would-type_" + "x" * 83
    with session(slug, final_text=lambda number: "W" * 90 + f" {number}") as (node, _):
        for path, ready in ((f"/?session={slug}", f"{N_FINALS} >= 2"), ("/", "document.querySelector('#sessions a')"),
                            ("/dashboard", "document.querySelector('#sessions th')")):
            page = browser.page()
            page.size(360, 640, is_phone=True)
            page.open(address(node, path))
            page.wait(ready, f"{path} is filled")
            assert page.run("[document.documentElement.scrollWidth, innerWidth]") == [360, 360], path
            box = "document.getElementById('transcript')"
            assert page.run(f"!{box} || {box}.scrollWidth <= {box}.clientWidth"), path
        page = browser.page()
        page.size(360, 640, is_phone=True)
        page.open(address(node, f"/?session={slug}"))
        for _ in range(5):
            page.click("#larger")
        page.wait(f"{N_FINALS} >= 1 && getComputedStyle(document.getElementById('lines')).fontSize === '48px'", "the largest text")
        assert page.run("document.documentElement.scrollWidth") == 360 and page.run(FOLLOWS)


def test_larger_text_stays_and_the_files_are_there():
    with session() as (node, _):
        page = browser.page(address(node, "/?session=room"))
        page.wait(f"{N_FINALS} >= 2", "two finals")
        size = "parseFloat(getComputedStyle(document.getElementById('lines')).fontSize)"
        before = page.run(size)
        page.click("#larger")
        larger = page.wait(f"{size} > {before} && {size}", "larger text")
        files = page.run("[...document.querySelectorAll('#downloads a')].map((link) => [link.href, link.download])")
        assert [name for _, name in files] == ["room.txt", "room.srt", "room.vtt", "room.json"], files
        for url, _ in files:
            status, _, body = harness.http(url)
            assert status == 200 and "utterance 0" in body, (url, status, body)
        page.open(address(node, "/?session=room&again"))
        page.wait(f"{size} === {larger}", "the text as large as before")


def test_links_with_tokens():
    with ScriptedStt() as stt, harness.node(stt.url, VIEWER_SECRET="secret") as node, harness.publisher(node, "room"):
        page = browser.page(address(node, f"/?session=room&token={token('secret', 'room')}"))
        page.wait(f"{N_FINALS} >= 1", "the words")
        assert harness.http(page.run("document.querySelector('#downloads a').href"))[0] == 200
        assert not page.complaints(), page.complaints()
        for query, why in (("", "not valid"), (f"&token={token('secret', 'room', -60)}", "no longer valid"),
                           (f"&token={token('secret', 'other')}", "does not open this session")):
            page = browser.page(address(node, f"/?session=room{query}"))
            page.wait("document.getElementById('state').dataset.state === 'refused'", "the refusal")
            assert why in page.run("document.getElementById('state').textContent"), query
            assert len(page.sockets()) == 1 and page.run(N_FINALS) == 0
        page = browser.page(address(node, f"/?token={token('secret', '*')}"))
        page.wait("document.getElementById('no-sessions').textContent.includes('type the name')", "the list is not for all")
        page.run("document.getElementById('session').focus()")
        page.type("room")
        page.key("Enter")
        page.wait(f"location.search.includes('token=') && {N_FINALS} >= 1", "the words, with the token carried on")


def test_a_node_that_goes_and_comes_back():
    with ScriptedStt() as stt:
        with harness.node(stt.url) as node, harness.publisher(node, "room"):
            port = node.port("http")
            page = browser.page(address(node, "/?session=room"))
            page.wait(f"{N_FINALS} >= 1", "the words")
            page.run("window.isTheSame = true")
            node.stop()
            page.wait("document.getElementById('state').dataset.state === 'offline'", "the page says that it is cut off")
        with harness.node(stt.url, HTTP_LISTEN=f"127.0.0.1:{port}") as node, harness.publisher(node, "room"):
            count = page.run(N_FINALS)
            page.wait(f"{N_FINALS} >= {count + 2} && document.getElementById('state').dataset.state === 'live'", "new words")
            assert page.run("isTheSame") and page.run("document.querySelectorAll('.note').length") >= 1


FOCUSABLE = "[...document.querySelectorAll('a[href], button, input:not([type=hidden]), summary, [tabindex=\"0\"]')]" \
            ".filter((element) => element.checkVisibility())"
FOCUS = """(() => {
  const element = document.activeElement, style = getComputedStyle(element), box = element.getBoundingClientRect();
  return {index: FOCUSABLE.indexOf(element), name: element.outerHTML.slice(0, 80),
          isSeen: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 && box.right > 0 && box.bottom > 0};
})()""".replace("FOCUSABLE", FOCUSABLE)


def test_the_keyboard_reaches_everything():
    with session() as (node, _):
        for path, ready in (("/?session=room", f"{N_FINALS} >= 1"), ("/", "document.querySelector('#sessions a')"),
                            ("/dashboard", "document.querySelector('#sessions th')")):
            page = browser.page(address(node, path))
            page.wait(ready, f"{path} is filled")
            count = page.run(f"{FOCUSABLE}.length")
            reached = []
            for _ in range(count):
                page.key("Tab")
                focus = page.run(FOCUS)
                assert focus["isSeen"], (path, focus)
                reached.append(focus["index"])
            assert sorted(reached) == list(range(count)), (path, reached)


def test_text_with_html_in_it_is_text():
    evil = '<img src=x onerror="window.hacked=1"><b>bold</b> & {}'
    with session(final_text=evil.format) as (node, _):
        page = browser.page(address(node, "/?session=room"))
        page.wait(f"{N_FINALS} >= 2", "two finals")
        assert page.run(LINES)[:2] == truth(node)[:2] and truth(node)[0].startswith("<img src=x onerror=")
        assert page.run("document.querySelectorAll('main img, main b').length + (window.hacked ?? 0)") == 0


def test_the_dashboard_moves():
    with session() as (node, _), harness.viewer(node, "room") as viewer:
        viewer.wait_finals(1)
        for door in ("http", "admin"):
            page = browser.page(address(node, "/dashboard", door))
            page.wait("document.querySelector('#sessions th')?.textContent === 'room'", "the session's row")
            page.wait("[...document.querySelectorAll('#sessions td')].map((cell) => cell.textContent).slice(0, 2).join() === 'Live,1'",
                      "its state and its viewer")
            assert page.run("document.getElementById('tile-sessions').textContent") == "1"
            for metric in ("gladia.stt_latency_ms.final", "ingest.broadcast_latency_ms", "audio.chunk_size_bytes"):
                line = f"document.querySelector('[data-metric=\"{metric}\"] .p50').getAttribute('points')"
                first = page.wait(f"{line}?.split(' ').length >= 2 && {line}", f"{metric} has points")
                page.wait(f"{line} !== {json.dumps(first)}", f"{metric} moves")
            assert "p95" in page.run("document.querySelector('.figures').textContent")
            counter = "[...document.querySelectorAll('#counters tr')].find((row) => row.cells[0].textContent === " \
                      "'ledger.finals_total')?.cells[1].textContent"
            first = page.wait(counter, "the counters")
            page.wait(f"{counter} !== {json.dumps(first)}", "a counter moves")
            assert page.run("document.getElementById('state').textContent") == "Serving"


def test_the_dashboard_says_what_is_degraded():
    with ScriptedStt() as stt:
        stt.refuse_with = 503
        with harness.node(stt.url) as node, harness.publisher(node, "room"):
            page = browser.page(address(node, "/dashboard"))
            page.wait("document.getElementById('degraded').textContent.startsWith('stt for ')", "the degraded part")
            assert "degraded" in page.run("document.getElementById('state').textContent")
            assert not page.complaints(), page.complaints()


def run_all():
    """One browser for all; without it every test is skipped with the same reason."""
    global browser
    try:
        with Browser() as browser:
            harness.main(globals())
    except harness.Skip as skip:
        print(f"1..1\nskip - the pages in a browser # {skip}", flush=True)


if __name__ == "__main__":
    run_all()
