"""Headless Chromium, steered by the DevTools protocol: pages as a person uses them, with real keys
and a real wheel. Every wait is bounded; what a page complains about (console, exceptions, Content
Security Policy) is kept and can be asked for.
"""

import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading

import websockets

import harness

PROGRAM = os.environ.get("VC_CHROMIUM", "chromium")
FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update", "--disable-default-apps", "--disable-breakpad",
         "--disable-domain-reliability", "--disable-dev-shm-usage", "--remote-debugging-port=0",
         "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
KEYS = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "PageUp": 33, "PageDown": 34, "ArrowUp": 38}
NAVIGATED = "Inspected target navigated or closed"  # what was asked then has no answer
COMPLAINTS = ("Runtime.exceptionThrown", "Log.entryAdded", "Audits.issueAdded", "Runtime.consoleAPICalled")


def complaint_of(event):
    """What an event says against the page, or None."""
    method, body = event["method"], event["params"]
    if method == "Runtime.exceptionThrown":
        details = body["exceptionDetails"]
        return f"exception: {details['text']} {details.get('exception', {}).get('description', '')}"
    if method == "Log.entryAdded" and body["entry"]["level"] in ("error", "warning"):
        return f"{body['entry']['source']}: {body['entry']['text']} {body['entry'].get('url', '')}"
    if method == "Runtime.consoleAPICalled" and body["type"] in ("error", "warning", "assert"):
        return f"console: {body['args']}"
    if method == "Audits.issueAdded" and body["issue"]["code"] == "ContentSecurityPolicyIssue":
        return f"policy: {body['issue']['details']}"
    return None


class Page:
    """One tab, in a browser context of its own (no storage or cache of another's)."""

    def __init__(self, browser, session):
        self.browser = browser
        self.session = session
        self.events = []
        browser.pages[session] = self
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")
        self.size(1000, 700)

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def size(self, width, height, is_phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if is_phone else 1,
                  mobile=is_phone)

    def scheme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def open(self, url):
        answer = self.call("Page.navigate", url=url)
        assert "errorText" not in answer, (url, answer)
        self.wait(f"location.href === {json.dumps(url)} && document.readyState === 'complete'", f"{url} is loaded")

    def run(self, expression):
        """The value of an expression in the page; true for an element, which cannot travel."""
        wrapped = f"Promise.resolve({expression}).then((value) => value instanceof Node || value)"
        answer = self.call("Runtime.evaluate", expression=wrapped, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
        return answer["result"].get("value")

    def run_in_any(self, expression):
        """None where the page goes elsewhere meanwhile."""
        try:
            return self.run(expression)
        except AssertionError as failure:
            if NAVIGATED in str(failure):
                return None
            raise

    def wait(self, expression, what, timeout=None):
        try:
            return harness.wait_until(lambda: self.run_in_any(expression), what, timeout)
        except AssertionError as late:
            body = self.run("document.body ? document.body.innerText.slice(-600) : ''")
            raise AssertionError(f"{late}; the page says {body!r}; {self.complaints()}") from None

    def key(self, name):
        """A key pressed and let go, as by a hand."""
        code = KEYS[name]
        more = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown" if more else "rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code,
                      **(more if kind == "keyDown" else {}))

    def type(self, text):
        self.call("Input.insertText", text=text)

    def wheel(self, x, y, delta_y):
        self.call("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=delta_y)

    def click(self, selector):
        box = self.run(f"(() => {{ const b = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
                       "return [b.x + b.width / 2, b.y + b.height / 2]; })()")
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def sockets(self):
        """The addresses of the WebSockets that the page has opened, in order."""
        return [event["params"]["url"] for event in list(self.events) if event["method"] == "Network.webSocketCreated"]

    def complaints(self):
        found = (complaint_of(event) for event in list(self.events) if event["method"] in COMPLAINTS)
        return [complaint for complaint in found if complaint]

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot")["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))


class Browser:
    """Chromium with a profile of its own; its messages are read by a thread of its own."""

    def __init__(self, flags=()):
        if shutil.which(PROGRAM) is None:
            raise harness.Skip("chromium is not installed")
        self.folder = tempfile.mkdtemp(prefix="vc-chromium-")
        self.pages = {}
        self.waiting = {}
        self.n_calls = 0
        self.socket = None
        environment = {key: value for key, value in os.environ.items() if not key.endswith("SAN_OPTIONS")}
        environment["HOME"] = self.folder
        self.log_path = os.path.join(self.folder, "log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([PROGRAM, *FLAGS, *flags, f"--user-data-dir={self.folder}/profile", "about:blank"],
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                            start_new_session=True)
        self.loop = asyncio.new_event_loop()
        self.is_up = threading.Event()
        try:
            self.url = harness.wait_until(self.read_address, "Chromium listens")
            self.thread = threading.Thread(target=self.read, daemon=True)
            self.thread.start()
            assert self.is_up.wait(harness.PATIENCE_S), "Chromium takes no connection"
        except BaseException:
            self.kill()
            raise

    def read_address(self):
        if self.process.poll() is not None:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                raise RuntimeError(f"Chromium ended with {self.process.returncode}: {log.read()[-2000:]}")
        try:
            with open(f"{self.folder}/profile/DevToolsActivePort", encoding="utf-8") as file:
                lines = file.read().split()
        except FileNotFoundError:
            return None
        return f"ws://127.0.0.1:{lines[0]}{lines[1]}" if len(lines) == 2 else None

    def read(self):
        self.loop.run_until_complete(self.take_all())
        self.loop.close()

    async def take_all(self):
        try:
            async with websockets.connect(self.url, max_size=None, ping_interval=None, compression=None) as self.socket:
                self.is_up.set()
                async for text in self.socket:
                    self.take(json.loads(text))
        except websockets.exceptions.ConnectionClosed:
            pass
        for future in self.waiting.values():
            future.cancel()

    def take(self, message):
        if "id" in message:
            future = self.waiting.pop(message["id"], None)
            if future is not None and not future.done():
                future.set_result(message)
        elif message.get("sessionId") in self.pages:
            self.pages[message["sessionId"]].events.append(message)

    async def ask(self, message):
        future = self.loop.create_future()
        self.waiting[message["id"]] = future
        await self.socket.send(json.dumps(message))
        return await asyncio.wait_for(future, harness.PATIENCE_S)

    def call(self, method, session=None, **parameters):
        self.n_calls += 1
        message = {"id": self.n_calls, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        answer = asyncio.run_coroutine_threadsafe(self.ask(message), self.loop).result(harness.PATIENCE_S + 5)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def page(self, url=None, permissions=None):
        """`permissions`: {name: "granted" or "denied"}, of every origin."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        for name, setting in (permissions or {}).items():
            self.call("Browser.setPermission", permission={"name": name}, setting=setting, browserContextId=context)
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        page = Page(self, self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"])
        if url is not None:
            page.open(url)
        return page

    def kill(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.thread.join(harness.PATIENCE_S)
