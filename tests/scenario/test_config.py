"""Options: what is refused and in which words, what --help and --check-config say, secrets unsaid."""

import socket

import harness


def run(*arguments, name="verbacast", **environment):
    process = harness.Process(name, environment, ready=False, arguments=arguments)
    output = process.process.stdout.read().decode()
    status = process.wait()
    log = process.log()
    process.process.stdout.close()
    harness.shutil.rmtree(process.folder, ignore_errors=True)
    return status, output, log


def test_usage_errors_name_option_value_and_range():
    for arguments, words in ((["--pcm-chunk-size-ms", "5"], ["PCM_CHUNK_SIZE_MS", "5", "10 to 200 ms"]),
                             (["--pcm-chunk-size-ms=50x"], ["PCM_CHUNK_SIZE_MS", "50x"]),
                             (["--pcm-chunk-size-ms"], ["PCM_CHUNK_SIZE_MS"]), (["--no-such-flag"], ["--no-such-flag"]),
                             (["stray"], ["stray"]), (["--log-level", "loud"], ["loud", "error,warn,info,debug"]),
                             (["--http-listen", "nowhere"], ["HTTP_LISTEN", "nowhere"]),
                             (["--node-id", 'a"b'], ["NODE_ID", 'a"b', "printable"]),
                             (["--node-id", "n" * 91], ["NODE_ID", "too long"]),
                             (["--stt-max-utterance-s", "0x10"], ["STT_MAX_UTTERANCE_S", "0x10", "5 to 60 s"]),
                             (["--journal-path="], ["JOURNAL_PATH", "outlives"]),
                             (["--journal-path", ":memory:"], ["JOURNAL_PATH", ":memory:"]),
                             (["--database-url", "sqlite::memory:"], ["DATABASE_URL", "sqlite::memory:"]),
                             (["--stt-url", "ftp://x"], ["STT_URL", "ftp://x"])):
        status, _, log = run(*arguments)
        assert status == 2, (arguments, status)
        for word in words:
            assert word in log, (arguments, word, log)
    status, _, log = run(MAX_PUBLISHERS="0")
    assert status == 2 and "MAX_PUBLISHERS" in log, log


def is_ipv6_here():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_that_a_listener_cannot_be_by_ipv6_is_known_before():
    """Where Civetweb was built without; with it they can, and RTMP can anywhere."""
    node = {option: "127.0.0.1:0" for option in ("HTTP_LISTEN", "ADMIN_LISTEN", "RTMP_LISTEN")}
    sink = {"KAFKA_BROKERS": "127.0.0.1:9", "DATABASE_URL": "sqlite:x.db"}
    for name, option, more in (("verbacast", "RTMP_LISTEN", node), ("verbacast", "HTTP_LISTEN", node),
                               ("verbacast", "ADMIN_LISTEN", node), ("verbacast-sink", "SINK_LISTEN", sink)):
        settings = {**more, option: "[::1]:0"}
        status, _, log = run("--check-config", name=name, **settings)
        if status == 1:
            assert option != "RTMP_LISTEN" and f"{option}: '[::1]:0' is IPv6" in log, log
            assert run(name=name, **settings)[0] == 1
            continue
        assert status == 0, (option, log)
        if not is_ipv6_here():
            continue
        with harness.Process(name, settings) as process:
            assert any(address.startswith("[::1]:") for address in process.addresses.values()), process.addresses


def test_the_stt_server_says_the_same():
    for arguments, words in ((["--stt-max-sessions", "10001"], ["STT_MAX_SESSIONS", "10001", "0 to 10000 sessions"]),
                             (["--stt-max-sessions=4x"], ["STT_MAX_SESSIONS", "4x", "0 to 10000 sessions"]),
                             (["--stt-max-sessions", "-1"], ["STT_MAX_SESSIONS", "-1"]),
                             (["--stt-engine", "ear"], ["STT_ENGINE", "ear", "auto,sherpa,pocketsphinx"]),
                             (["--stt-listen", "here"], ["STT_LISTEN", "here"]), (["--stt-listen"], ["STT_LISTEN"]),
                             (["--stt-max-session", "4"], ["--stt-max-session", "--stt-max-sessions"])):
        status, output, log = run(*arguments, name="verbacast-stt")
        assert status == 2 and output == "" and log.startswith("verbacast-stt: "), (arguments, status, log)
        for word in words:
            assert word in log, (arguments, word, log)
    status, output, log = run("--check-config", name="verbacast-stt", STT_API_KEYS="hush")
    assert status == 0 and "STT_LISTEN=127.0.0.1:4100" in output, (status, output, log)
    assert "hush" not in output + log
    status, _, log = run("--check-config", name="verbacast-stt", STT_MODEL="/nonexistent")
    assert status == 1 and "/nonexistent" in log, (status, log)


def test_the_sink_says_the_same():
    needed = {"KAFKA_BROKERS": "127.0.0.1:9", "DATABASE_URL": "sqlite:x.db"}
    for arguments, words in ((["--batch-max-size", "0"], ["BATCH_MAX_SIZE", "0", "1 to 10000 rows"]),
                             (["--retention-days=-1"], ["RETENTION_DAYS", "-1", "0 to 36500 days"]),
                             (["--kafka-group="], ["KAFKA_GROUP"]), (["--sink-listen", "here"], ["SINK_LISTEN", "here"]),
                             (["--database-url", "mysql://x"], ["DATABASE_URL", "mysql://x", "sqlite:PATH"]),
                             (["--reset-offset"], ["--reset-offset", "--reset-offsets"])):
        status, output, log = run(*arguments, name="verbacast-sink", **needed)
        assert status == 2 and output == "" and log.startswith("verbacast-sink: "), (arguments, status, log)
        for word in words:
            assert word in log, (arguments, word, log)
    for missing in needed:
        for arguments in ([], ["--check-config"]):
            status, output, log = run(*arguments, name="verbacast-sink", **{**needed, missing: ""})
            assert status == 2 and output == "" and missing in log, (missing, status, log)
    status, _, log = run("--check-config", name="verbacast-sink", **needed, SINK_LISTEN="0.0.0.0:0")
    assert status == 1 and "ADMIN_TOKEN" in log and "--insecure" in log, log
    status, _, log = run("--check-config", name="verbacast-sink", **needed, KAFKA_CONFIG="no.such.key=1")
    assert status == 1 and "no.such.key" in log, (status, log)
    status, output, log = run("--check-config", name="verbacast-sink", KAFKA_BROKERS="127.0.0.1:9", ADMIN_TOKEN="hush",
                              DATABASE_URL="postgresql://verbacast:secret@127.0.0.1/x")
    assert status == 0 and "drain" in output and "KAFKA_GROUP=verbacast-sink" in output, (output, log)
    assert "hush" not in output + log and "secret" not in output + log, output


def test_help_version_and_check():
    for name in ("verbacast", "verbacast-stt", "verbacast-sink"):
        status, output, _ = run("--help", name=name)
        assert status == 0 and "LOG_LEVEL" in output and "--check-config" in output
        status, output, _ = run("--version", name=name)
        assert status == 0 and output.startswith(name)
    status, output, log = run("--check-config", VIEWER_SECRET="hush", HTTP_LISTEN="0.0.0.0:3000",
                              DATABASE_URL="sqlite:x.db")
    assert status == 0 and "drain" in output, (output, log)
    assert "hush" not in output + log


def test_more_workers_than_lanes():
    for environment, words in (({"INGEST_THREADS": "256"}, ["ingest", "259 lanes", "INGEST_THREADS"]),
                               ({"STT_THREADS": "200", "BROADCAST_THREADS": "56"},
                                ["ledger", "259 lanes", "STT_THREADS or BROADCAST_THREADS"])):
        status, _, log = run("--check-config", **environment)
        assert status == 1, (environment, status)
        for word in words:
            assert word in log, (environment, word, log)
    status, _, log = run("--check-config", INGEST_THREADS="253", DECODE_THREADS="256", STT_THREADS="200",
                         BROADCAST_THREADS="53")
    assert status == 0, log


def test_off_loopback_without_a_secret_is_refused():
    for option, secret in (("HTTP_LISTEN", "VIEWER_SECRET"), ("ADMIN_LISTEN", "ADMIN_TOKEN"),
                           ("RTMP_LISTEN", "PUBLISH_SECRET")):
        status, _, log = run(**{option: "0.0.0.0:0"})
        assert status == 1 and secret in log and "--insecure" in log, log


if __name__ == "__main__":
    harness.main(globals())
