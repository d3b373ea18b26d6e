"""Real recorded speech, played in real time through the node and verbacast-stt, read by a viewer. (release only) (runs alone)"""

import glob
import re

import harness
import scoring

FOLDER = "/usr/share/pocketsphinx/test/data/librivox"


def test_recorded_speech_is_understood():
    files = sorted(glob.glob(f"{FOLDER}/*.wav"))[:3]
    with open(f"{FOLDER}/transcription", encoding="utf-8") as file:
        texts = {match.group(2): match.group(1) for match in
                 re.finditer(r"^(?:<s>)?\s*(.*?)\s*(?:</s>)?\s*\((\S+)\)$", file.read(), re.M)}
    want = sum((scoring.words_of(texts[harness.os.path.basename(name)[:-4]]) for name in files), [])
    inputs = sum((["-i", name] for name in files), [])
    join = ["-filter_complex", f"concat=n={len(files)}:v=0:a=1,apad=pad_dur=1", "-ar", "44100", "-c:a", "aac"]
    with harness.stt() as stt, harness.node(stt.url("stt", "/v2/live")) as node:
        with harness.viewer(node, "talk") as viewer:
            with harness.publisher(node, "talk", source=inputs, encode=join) as publisher:
                assert publisher.wait(120) == 0, publisher.errors()
            viewer.wait_type("end")
            got = sum((scoring.words_of(final["text"]) for final in viewer.finals()), [])
            partials = [message for message in viewer.messages if message["type"] == "transcript" and not message["isFinal"]]
            for final in viewer.finals():
                assert 0 <= final["start"] <= final["end"] and final["words"], final
    errors = scoring.distance(want, got)
    print(f"{errors} of {len(want)} words differ; {len(partials)} partials")
    most = 0.15 if harness.ENGINE else 0.6
    assert partials and errors <= most * len(want), (want, got)


if __name__ == "__main__":
    harness.main(globals())
