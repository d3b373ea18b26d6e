"""/metrics of a node at work: the seed's reading of it, its schema, its table, Prometheus' text."""

import http.client
import json
import os
import re
import subprocess
import threading

import harness
import jsonschema
from scripted_stt import ScriptedStt

SEED_QUERY = ('.latency | to_entries | map(select(.key | contains("stt") or contains("broadcast") or '
              'contains("gladia")))')
NAMED_DISTRIBUTIONS = ("audio.chunk_size_bytes", "stt.end_to_transcript_ms", "stt.end_to_transcript_ms.partial",
                       "stt.end_to_transcript_ms.final", "gladia.stt_latency_ms", "gladia.stt_latency_ms.partial",
                       "gladia.stt_latency_ms.final", "gladia.message_gap_ms", "ingest.broadcast_latency_ms",
                       "ws.session_broadcast_lag_ms", "ws.session_broadcast_lag_ms.room", "ws.fanout_ms")
NAMED_COUNTERS = ("audio.chunks_sent", "ws.broadcast_errors_total", "ws.heartbeat_timeouts_total",
                  "ws.queue_drops_total", "ws.partials_skipped_total", "ingest.takeover_flaps_total")
GROUP_OF_KIND = {"counter": "counters", "gauge": "gauges", "gauge (largest)": "gauges", "distribution": "latency"}
SAMPLE = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-z_]+="[^"\\\n]*",?)+\})? (-?[0-9.e+-]+|NaN)')


def read_file(*path):
    with open(os.path.join(harness.ROOT, *path), encoding="utf-8") as file:
        return file.read()


def validate(metrics):
    schema = json.loads(read_file("docs", "schemas", "metrics.v1.json"))
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.Draft7Validator(schema).validate(metrics)


def documented():
    """The node's rows of docs/metrics.md: name -> kind."""
    table = read_file("docs", "metrics.md").split("## verbacast-stt")[0]
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \|", table, re.M)
    assert len(rows) > 50, rows
    return {name: kind.strip() for name, kind in rows}


def read_prometheus(text):
    """family -> (type, {labels: value of the sample}); checks the form of every line on the way."""
    assert text.endswith("\n")
    families, helped, name = {}, None, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped, words = line.split(" ", 3)[2:]
            assert words.strip() and helped not in families, line
        elif line.startswith("# TYPE "):
            name, kind = line.split(" ")[2:]
            assert name == helped and kind in ("counter", "gauge", "summary"), line
            families[name] = (kind, {})
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample, line
            rest = sample[1].removeprefix(name)
            allowed = ("", "_sum", "_count") if families[name][0] == "summary" else ("",)
            assert sample[1].startswith(name) and rest in allowed, (name, line)
            key = rest + (sample[2] or "")
            assert key not in families[name][1], line
            families[name][1][key] = float(sample[3])
    return families


def test_empty_node():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        metrics = harness.http_json(node.url("admin", "/metrics"))
        validate(metrics)
        assert metrics["sessions"] == {} and metrics["latency"]["ws.fanout_ms"]["count"] == 0


def test_json_of_a_session():
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "room") as viewer:
        with harness.publisher(node, "room") as publisher:
            viewer.wait_finals(3)
            body = harness.http(node.url("http", "/metrics"))[2]
            metrics = json.loads(body)
            validate(metrics)
            for name in NAMED_DISTRIBUTIONS:
                row = metrics["latency"][name]
                assert 0 < row["count"] <= row["count_total"], (name, row)
                assert row["min"] <= row["p50"] <= row["p95"] <= row["p99"] <= row["max"], (name, row)
                assert row["min"] <= row["avg"] <= row["max"], (name, row)
            for name in NAMED_COUNTERS:
                assert name in metrics["counters"], name
            assert metrics["counters"]["audio.chunks_sent"] > 20
            assert metrics["sessions"]["room"]["clients"] == 1
            assert metrics["sessions"]["room"]["state"] == "live"
            assert metrics["node"]["degraded"] == []
            seen = subprocess.run(["jq", SEED_QUERY], input=body, stdout=subprocess.PIPE, text=True, check=True)
            names = [row["key"] for row in json.loads(seen.stdout)]
            wanted = [name for name in NAMED_DISTRIBUTIONS if re.search("stt|broadcast|gladia", name)]
            assert set(wanted) <= set(names), names
            publisher.stop()


def test_every_metric_is_documented_and_there():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        metrics = harness.http_json(node.url("http", "/metrics"))
        rows = documented()
        for name, kind in rows.items():
            assert name in metrics[GROUP_OF_KIND[kind]], (name, kind)
        for group in set(GROUP_OF_KIND.values()):
            for name in metrics[group]:
                assert name in rows, name


def with_sessions(node):
    """The answer, when no worker was too busy to tell of its sessions."""
    answer = harness.http(node.url("http", "/metrics"), headers={"Accept": "text/plain"})
    return answer if "verbacast_session_clients{" in answer[2] else None


def test_prometheus():
    types = {"counter": "counter", "gauge": "gauge", "gauge (largest)": "gauge", "distribution": "summary"}
    with ScriptedStt() as stt, harness.node(stt.url, METRICS_PER_SESSION=1, NODE_ID="the node") as node:
        with harness.viewer(node, "room") as viewer, harness.publisher(node, "room") as publisher:
            viewer.wait_finals(2)
            _, headers, text = harness.wait_until(lambda: with_sessions(node), "the workers are asked in time")
            assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8", headers["Content-Type"]
            families = read_prometheus(text)
            for name, kind in documented().items():
                family = families["verbacast_" + name.replace(".", "_")]
                assert family[0] == types[kind], (name, family)
                if kind == "distribution":
                    assert set(family[1]) == {'{quantile="0.5"}', '{quantile="0.95"}', '{quantile="0.99"}', "_sum",
                                              "_count"}, (name, family)
                else:
                    assert set(family[1]) == {""} and family[1][""] == int(family[1][""]), (name, family)
            assert families["verbacast_audio_chunks_sent"][1][""] > 20
            assert families["verbacast_audio_chunk_size_bytes"][1]["_sum"] > 20
            assert families["verbacast_session_clients"][1] == {'{session="room"}': 1}
            assert families["verbacast_session_broadcast_lag_ms"][1]['{session="room"}'] >= 0
            assert list(families["verbacast_info"][1].values()) == [1]
            assert 'node="the node"' in list(families["verbacast_info"][1])[0]
            publisher.stop()


def test_a_worker_that_hangs_hides_no_other_figure():
    """Only what it must be asked for, the sessions, is left out; the JSON, which has a place for them, is refused."""
    with ScriptedStt() as stt, harness.node(stt.url, METRICS_PER_SESSION=1) as node, harness.viewer(node, "room") as viewer, \
            harness.publisher(node, "room") as publisher:
        viewer.wait_finals(1)
        with harness.Frozen(node.process.pid, "vc-broadcas-0"):
            status, _, text = harness.http(node.url("http", "/metrics"), headers={"Accept": "text/plain"})
            families = read_prometheus(text)
            assert status == 200 and not families.get("verbacast_session_clients", (None, {}))[1], text
            assert families["verbacast_ws_viewers"][1][""] == 1
            assert harness.http(node.url("http", "/metrics"))[0] == 503
        publisher.stop()


def test_prometheus_says_what_is_degraded():
    with ScriptedStt() as stt:
        stt.refuse_with = 503
        with harness.node(stt.url, METRICS_PER_SESSION=1) as node, harness.publisher(node, "room") as publisher:
            harness.wait_until(lambda: harness.http_json(node.url("http", "/readyz"))["degraded"], "stt is degraded")
            validate(harness.http_json(node.url("http", "/metrics")))
            families = read_prometheus(harness.http(node.url("http", "/metrics?format=prometheus"))[2])
            assert families["verbacast_degraded"][1] == {'{what="stt"}': 1}, families["verbacast_degraded"]
            publisher.kill()


def test_asked_while_it_ends():
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        asked, answers = threading.Semaphore(0), set()

        def ask():
            try:
                while True:
                    answers.add(harness.http(node.url("admin", "/metrics"))[0])
                    asked.release()
            except (OSError, http.client.HTTPException):
                pass  # the door is closed

        askers = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for asker in askers:
            asker.start()
        for _ in range(20):
            assert asked.acquire(timeout=harness.PATIENCE_S)
        node.stop()
        for asker in askers:
            asker.join(harness.PATIENCE_S)
            assert not asker.is_alive()
        assert 200 in answers and answers <= {200, 503}, answers


if __name__ == "__main__":
    harness.main(globals())
