"""The alarms of deploy/alerts.yml in the real Prometheus, with their patience shortened."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request

import harness

RULES = os.path.join(harness.ROOT, "deploy", "alerts.yml")


def shortened(rules):
    """The same rules with less patience: a window of 5 minutes is 10 s, and nothing has to last."""
    rules = re.sub(r"\bfor: \w+", "for: 0s", rules)
    rules = re.sub(r"\[5m\]", "[10s]", rules)
    return rules.replace("oldest_unsent_s > 300", "oldest_unsent_s > 2")


class Prometheus:
    """Scrapes what it is told to, four times a second."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="vc-prometheus-")
        self.targets = {}
        self.seen = set()  # that have fired
        self.write("targets.json", "[]")
        with open(RULES, encoding="utf-8") as file:
            self.write("alerts.yml", shortened(file.read()))
        subprocess.run(["promtool", "check", "rules", self.path("alerts.yml")], stdout=subprocess.DEVNULL, check=True)
        self.write("prometheus.yml", json.dumps({
            "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "250ms"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{"job_name": "files", "scrape_timeout": "250ms",
                                "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}]}]}))
        self.port = harness.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        with open(self.path("log"), "wb") as log:
            self.process = subprocess.Popen(
                ["prometheus", f"--config.file={self.path('prometheus.yml')}", f"--storage.tsdb.path={self.path('data')}",
                 f"--web.listen-address=127.0.0.1:{self.port}"], cwd=self.folder, stdout=log, stderr=log)
        harness.wait_until(self.is_ready, "Prometheus is ready")

    def path(self, name):
        return os.path.join(self.folder, name)

    def write(self, name, text):
        """As a whole: it is read at any time."""
        with open(self.path(name + ".new"), "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.path(name + ".new"), self.path(name))

    def is_ready(self):
        assert self.process.poll() is None, open(self.path("log"), encoding="utf-8").read()[-3000:]
        try:
            return harness.http(f"{self.url}/-/ready")[0] == 200
        except OSError:
            return False

    def watch(self, job, address):
        self.targets[address] = job
        self.write("targets.json", json.dumps([{"targets": [target], "labels": {"job": its}}
                                               for target, its in self.targets.items()]))
        harness.wait_until(lambda: self.is_scraped(address), f"{address} is scraped")

    def is_scraped(self, address):
        with urllib.request.urlopen(f"{self.url}/api/v1/targets", timeout=20) as answer:
            active = json.load(answer)["data"]["activeTargets"]
        return any(target["labels"]["instance"] == address and target["health"] == "up" for target in active)

    def firing(self, address):
        with urllib.request.urlopen(f"{self.url}/api/v1/alerts", timeout=20) as answer:
            alerts = json.load(answer)["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts
                if alert["state"] == "firing" and alert["labels"].get("instance") == address}

    def wait_firing(self, address, *names):
        harness.wait_until(lambda: set(names) <= self.firing(address), f"{names} ring")
        self.seen.update(names)

    def wait_silent(self, address, *names):
        harness.wait_until(lambda: not set(names) & self.firing(address), f"{names} fall silent")

    def close(self):
        self.process.terminate()
        self.process.wait(harness.PATIENCE_S)
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def watched_node(prometheus, stt_url, **options):
    with harness.node(stt_url, **options) as node:
        prometheus.watch("verbacast", node.addresses["admin"])
        yield node, node.addresses["admin"]


def run(names, *groups):
    """Runs the tests, which find `prometheus` among their names; every alarm of the groups must have rung."""
    def test_none_was_left_out():
        with open(RULES, encoding="utf-8") as file:
            parts = re.split(r"^  - name: (\S+)\n", file.read(), flags=re.M)[1:]
        wanted = {alarm for group, text in zip(parts[::2], parts[1::2]) if group in groups
                  for alarm in re.findall(r"- alert: (\w+)", text)}
        if not names["prometheus"].seen:
            raise harness.Skip("what rings them is not here")
        assert wanted and wanted <= names["prometheus"].seen, wanted - names["prometheus"].seen

    names["prometheus"] = Prometheus()
    try:
        harness.main({**names, "test_none_was_left_out": test_none_was_left_out})
    finally:
        names["prometheus"].close()
