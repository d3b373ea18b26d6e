"""Real recorded speech, played in real time through the node and verbacast-stt, read by viewers. (release only) (runs alone)"""

import contextlib
import glob
import re

import harness
import scoring

FOLDER = "/usr/share/pocketsphinx/test/data/librivox"
MOST = 0.15 if harness.ENGINE else 0.6  # of the words may differ


def recordings():
    """(path, words) of each."""
    with open(f"{FOLDER}/transcription", encoding="utf-8") as file:
        texts = {match.group(2): match.group(1) for match in
                 re.finditer(r"^(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\((\S+)\)$", file.read(), re.M)}
    return [(path, scoring.words_of(texts[harness.os.path.basename(path)[:-4]]))
            for path in sorted(glob.glob(f"{FOLDER}/*.wav"))]


def publish(node, slug, paths):
    inputs = sum((["-i", path] for path in paths), [])
    join = ["-filter_complex", f"concat=n={len(paths)}:v=0:a=1,apad=pad_dur=1", "-ar", "44100", "-c:a", "aac"]
    return harness.publisher(node, slug, source=inputs, encode=join)


def words_of(viewer):
    return sum((scoring.words_of(final["text"]) for final in viewer.finals()), [])


def test_recorded_speech_is_understood():
    played = recordings()[:3]
    want = sum((words for _, words in played), [])
    with harness.stt() as stt, harness.node(stt.url("stt", "/v2/live")) as node:
        with harness.viewer(node, "talk") as viewer:
            with publish(node, "talk", [path for path, _ in played]) as publisher:
                assert publisher.wait(120) == 0, publisher.errors()
            viewer.wait_type("end")
            got = words_of(viewer)
            partials = [message for message in viewer.messages if message["type"] == "transcript" and not message["isFinal"]]
            for final in viewer.finals():
                assert 0 <= final["start"] <= final["end"] and final["words"], final
    errors = scoring.distance(want, got)
    print(f"{errors} of {len(want)} words differ; {len(partials)} partials")
    assert partials and errors <= MOST * len(want), (want, got)


def resident_kib(process):
    with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
        return int(re.search(r"^VmRSS:\s*(\d+) kB$", file.read(), re.M).group(1))


def test_sessions_beside_each_other_are_not_mixed():
    if not harness.ENGINE:
        raise harness.Skip("no sherpa-onnx engine")
    played = recordings()[:4]
    with harness.stt() as stt, harness.node(stt.url("stt", "/v2/live")) as node, contextlib.ExitStack() as stack:
        alone_kib = resident_kib(stt.process)
        viewers = [stack.enter_context(harness.viewer(node, f"talk-{i}")) for i in range(len(played))]
        for i, (path, _) in enumerate(played):
            stack.enter_context(publish(node, f"talk-{i}", [path]))
        for viewer in viewers:
            viewer.wait_type("end")
        grown_kib = resident_kib(stt.process) - alone_kib
        print(f"{alone_kib} KiB without a session, {grown_kib} KiB more for {len(played)} at once")
        assert grown_kib < alone_kib, "each session has a model of its own"
        for viewer, (_, want) in zip(viewers, played):
            got = words_of(viewer)
            print(f"{scoring.distance(want, got)} of {len(want)} words differ")
            assert scoring.distance(want, got) <= 2 * MOST * len(want), (want, got)


if __name__ == "__main__":
    harness.main(globals())
