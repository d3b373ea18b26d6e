"""How good the words are and when they come: reference speech through the node, and beside it.

    VC_BUILD=build PYTHONPATH=tests/scenario /usr/bin/python3 tests/scenario/words.py [--json FILE]

Plays the utterances of shared/data/speech.tsv in a few sessions at once, in real time, two ways that see
the same samples: ffmpeg (AAC, RTMP) -> verbacast -> verbacast-stt -> a viewer, and straight to
verbacast-stt in chunks of 50 ms. Prints how many words differ between the two, how many are wrong in
each, how many the engine gets wrong that is given whole recordings, and after what time words are seen.

Latency reference: the publisher's audio timeline. The sound is fed to ffmpeg as a microphone would feed
it: a piece of 20 ms is written when its last sample is due, so sample n was said at T0 + n / 16000 with
one T0 for the whole session. A word's end on that line is found by an aligner of its own (word_times.py).
`partial`: from a word's end to the viewer's having the first partial that holds it. `final`: from the end
of the last word of a final to the viewer's having that final, where a pause ended the utterance. `cut`: the
same where it had grown too long and was cut: the last word before a cut may lie two seconds back. All hold
what there is on the way, ffmpeg's own buffers too; the seed's figures are "from speech to the viewer".

With --explain the straight way is walked three times more: unchanged once more (what chance alone
changes), with the encoder's silence in front (23 ms at 44.1 kHz), and with the samples that come out of the codec.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

import harness
import scoring
import websockets
import word_times

RATE = 16000
PIECE_S = 0.02
CHUNK_S = 0.05
LEAD_S = 1.0
PAUSE_S = 1.2
CUT_GAP_S = 0.02  # less between two utterances: nobody paused
SEED_MS = {"partial": "225–625 ms", "final": "525–1025 ms", "cut": "–"}
INIT = {
    "encoding": "wav/pcm", "bit_depth": 16, "sample_rate": RATE, "channels": 1, "endpointing": 0.3,
    "maximum_duration_without_endpointing": 5, "language_config": {"languages": ["en"], "code_switching": False},
    "messages_config": {"receive_partial_transcripts": True, "receive_final_transcripts": True},
}


class Codec:
    """What the publisher makes of the sound."""

    def __init__(self, rate_hz):
        self.set(rate_hz)

    def set(self, rate_hz):
        self.flags = ["-ar", str(rate_hz), "-c:a", "aac", "-b:a", "96k"]
        self.priming_s = 1024 / rate_hz  # what ffmpeg's AAC encoder puts in front


codec = Codec(44100)


class Utterance:
    def __init__(self, row, pcm):
        self.name, _, _, self.path, text = row
        self.words = scoring.words_of(text)
        self.pcm = pcm
        self.ends = None   # seconds of each word's end in the recording
        self.begin_s = 0   # in its session


class Session:
    """What is played one after the other, and what was told of it, by way."""

    def __init__(self, number):
        self.slug = f"words-{number}"
        self.utterances = []
        self.pcm = b""
        self.told = {}     # way -> [(seconds after T0, id, is_final, text, start, end)]

    def add(self, utterance):
        self.pcm = self.pcm or silence(LEAD_S)
        utterance.begin_s = len(self.pcm) / 2 / RATE
        self.pcm += utterance.pcm + silence(PAUSE_S)
        self.utterances.append(utterance)


def silence(seconds):
    return bytes(2 * int(seconds * RATE))


# --- the sound

def decode(path):
    source = ["-f", "g722"] if path.endswith(".g722") else []
    return subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *source, "-i", path, "-ar", str(RATE), "-ac", "1",
                           "-f", "s16le", "-"], stdout=subprocess.PIPE, check=True).stdout


def through_codec(pcm):
    """The samples as the codec leaves them, its silence in front included."""
    raw = ["-f", "s16le", "-ar", str(RATE), "-ac", "1"]
    coded = subprocess.run(["ffmpeg", "-nostdin", "-v", "error", *raw, "-i", "-", *codec.flags, "-f", "adts", "-"],
                           input=pcm, stdout=subprocess.PIPE, check=True).stdout
    return subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-f", "aac", "-i", "-", *raw, "-"], input=coded,
                          stdout=subprocess.PIPE, check=True).stdout


def load(n_sessions, most):
    """The sessions, and the utterances left out because the engine does not speak their language."""
    rows = harness.speech()
    here = [row for row in rows if row[1] == "en" and os.path.exists(row[3])]
    foreign = len([row for row in rows if row[1] != "en"])
    aligner = word_times.WordTimes()
    utterances = [Utterance(row, decode(row[3])) for row in here[:most]]
    for utterance in utterances:
        utterance.ends = aligner.ends(utterance.words, utterance.pcm)
    sessions = [Session(number) for number in range(n_sessions)]
    for utterance in sorted(utterances, key=lambda each: -len(each.pcm)):
        min(sessions, key=lambda session: len(session.pcm)).add(utterance)
    return [session for session in sessions if session.utterances], foreign


async def pace(pcm, piece_s, write):
    """Writes each piece when its last sample is due. Returns T0."""
    size = int(piece_s * RATE) * 2
    t0 = time.monotonic()
    for n, at in enumerate(range(0, len(pcm), size), 1):
        await asyncio.sleep(max(0, t0 + n * piece_s - time.monotonic()))
        await write(pcm[at:at + size])
    return t0


# --- the two ways

async def listen(socket, arrived, is_over):
    async for text in socket:
        now = time.monotonic()
        message = json.loads(text)
        arrived.append((now, message))
        if is_over(message):
            return


async def by_node(session, node):
    arrived = []
    async with websockets.connect(f"ws://{node.addresses['http']}/live/{session.slug}", compression=None) as socket:
        ears = asyncio.ensure_future(listen(socket, arrived, lambda message: message["type"] == "end"))
        ffmpeg = await asyncio.create_subprocess_exec(
            "ffmpeg", "-v", "error", "-fflags", "nobuffer", "-probesize", "32", "-analyzeduration", "0", "-f", "s16le",
            "-ar", str(RATE), "-ac", "1", "-i", "pipe:0", *codec.flags, "-flush_packets", "1", "-f", "flv",
            f"rtmp://{node.addresses['rtmp']}/live/{session.slug}", stdin=subprocess.PIPE)

        async def write(piece):
            ffmpeg.stdin.write(piece)
            await ffmpeg.stdin.drain()

        t0 = await pace(session.pcm, PIECE_S, write)
        ffmpeg.stdin.close()
        assert await asyncio.wait_for(ffmpeg.wait(), harness.PATIENCE_S) == 0
        await asyncio.wait_for(ears, harness.PATIENCE_S)
    session.told["node"] = [(at - t0, message["utteranceId"], message["isFinal"], message["text"],
                             message["start"] - codec.priming_s, message["end"] - codec.priming_s)
                            for at, message in arrived if message["type"] == "transcript"]


async def straight(session, stt, way, pcm, ahead_s=0.0):
    """`ahead_s`: what stands in front of the session's own sound in `pcm`."""
    made = await asyncio.get_running_loop().run_in_executor(
        None, lambda: harness.http(stt.url("stt", "/v2/live"), method="POST", body=json.dumps(INIT).encode(),
                                   headers={"content-type": "application/json"}))
    assert made[0] == 201, made
    arrived = []
    async with websockets.connect(json.loads(made[2])["url"], compression=None, max_size=None) as socket:
        ears = asyncio.ensure_future(listen(socket, arrived, lambda message: message["type"] == "end_recording"))
        t0 = await pace(pcm, CHUNK_S, socket.send)
        await socket.send(json.dumps({"type": "stop_recording"}))
        await asyncio.wait_for(ears, harness.PATIENCE_S)
    data = [(at, message["data"]) for at, message in arrived if message["type"] == "transcript"]
    session.told[way] = [(at - t0 - ahead_s, each["id"], each["is_final"], each["utterance"]["text"],
                          each["utterance"]["start"] - ahead_s, each["utterance"]["end"] - ahead_s)
                         for at, each in data]


def play(sessions, explain):
    async def together(plays):
        await asyncio.gather(*plays)

    with harness.stt() as stt, harness.node(stt.url("stt", "/v2/live")) as node:
        asyncio.run(together([by_node(session, node) for session in sessions]))
    ways = {"direct": lambda pcm: (pcm, 0.0)}
    if explain:
        ways["again"] = lambda pcm: (pcm, 0.0)
        ways["shifted"] = lambda pcm: (silence(codec.priming_s) + pcm, codec.priming_s)
        ways["codec"] = lambda pcm: (through_codec(pcm), codec.priming_s)
    with harness.stt() as stt:
        for way, change in ways.items():
            asyncio.run(together([straight(session, stt, way, *change(session.pcm)) for session in sessions]))
    return list(ways)


# --- what came of it

def told_of(session, utterance, way):
    """The messages whose middle lies in the utterance or the pause around it."""
    begin = utterance.begin_s - PAUSE_S / 2
    end = utterance.begin_s + len(utterance.pcm) / 2 / RATE + PAUSE_S / 2
    return [message for message in session.told[way] if begin <= (message[4] + message[5]) / 2 < end]


def heard(session, utterance, way):
    return scoring.words_of(" ".join(message[3] for message in told_of(session, utterance, way) if message[2]))


def heard_whole(utterances):
    with tempfile.TemporaryDirectory(prefix="vc-words-") as folder:
        paths = []
        for number, utterance in enumerate(utterances):
            paths.append(os.path.join(folder, f"{number}.raw"))
            with open(paths[-1], "wb") as file:
                file.write(utterance.pcm)
        done = subprocess.run([os.path.join(harness.BUILD, "tests", "scenario", "programs", "hear_whole"), *paths],
                              stdout=subprocess.PIPE, check=True, text=True)
    return [scoring.words_of(line) for line in done.stdout.splitlines()]


def kind_of(final, following):
    return "cut" if following is not None and following[4] - final[5] < CUT_GAP_S else "final"


def first_partials(messages, final, words):
    """{index in the final's words: when the first partial with that word came}."""
    first = {}
    for message in messages:
        if message[1] == final[1] and not message[2]:
            for _, index in scoring.align(scoring.words_of(message[3]), words)[1]:
                first.setdefault(index, message[0])
    return first


def delays(session, utterance, way):
    """[(kind, seconds from a word's end to the viewer)] of the words that were heard right."""
    messages = told_of(session, utterance, way)
    finals = [message for message in messages if message[2]]
    pairs = scoring.align(utterance.words, scoring.words_of(" ".join(final[3] for final in finals)))[1]
    end_of = {heard_at: utterance.begin_s + utterance.ends[said_at] for said_at, heard_at in pairs}
    found, offset = [], 0
    for final, following in zip(finals, finals[1:] + [None]):
        words = scoring.words_of(final[3])
        for index, at in first_partials(messages, final, words).items():
            if offset + index in end_of:
                found.append(("partial", at - end_of[offset + index]))
        offset += len(words)
        if offset - 1 in end_of:
            found.append((kind_of(final, following), final[0] - end_of[offset - 1]))
    return found


def quantiles(seconds):
    if len(seconds) < 2:
        return None
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"n": len(seconds), "p50_ms": round(cuts[49] * 1000), "p95_ms": round(cuts[94] * 1000)}


def latency(sessions, way):
    found = [row for session in sessions for utterance in session.utterances if utterance.ends is not None
             for row in delays(session, utterance, way)]
    return {kind: quantiles([seconds for each, seconds in found if each == kind]) for kind in SEED_MS}


def percent(part, whole):
    return round(100 * part / max(1, whole), 2)


def report_on(sessions, ways):
    pairs = [(session, utterance) for session in sessions for utterance in session.utterances]
    n_words = sum(len(utterance.words) for _, utterance in pairs)
    whole = heard_whole([utterance for _, utterance in pairs])
    wrong = {"whole": sum(scoring.distance(utterance.words, got) for (_, utterance), got in zip(pairs, whole))}
    differ, differences = {}, []
    for way in ["node"] + ways:
        wrong[way] = sum(scoring.distance(each.words, heard(session, each, way)) for session, each in pairs)
        differ[way] = sum(scoring.distance(heard(session, each, "direct"), heard(session, each, way))
                          for session, each in pairs)
    for session, utterance in pairs:
        got = {way: " ".join(heard(session, utterance, way)) for way in ["node"] + ways}
        if got["node"] != got["direct"]:
            differences.append({"name": utterance.name, "said": " ".join(utterance.words), **got})
    return {"sessions": len(sessions), "utterances": len(pairs), "words": n_words,
            "seconds": round(sum(len(utterance.pcm) for _, utterance in pairs) / 2 / RATE, 1),
            "wrong_percent": {way: percent(count, n_words) for way, count in wrong.items()},
            "differ_percent": {way: percent(count, n_words) for way, count in differ.items() if way != "direct"},
            "latency": {way: latency(sessions, way) for way in ("node", "direct")}, "differences": differences}


def show(report):
    print(f"{report['utterances']} utterances, {report['words']} words, {report['seconds']} s of speech, "
          f"{report['sessions']} sessions at once; left out in a language that the engine lacks: {report['left_out']}")
    print("\n| way | words wrong | differ from the straight way |\n| --- | --- | --- |")
    for way, wrong in report["wrong_percent"].items():
        differ = report["differ_percent"].get(way)
        print(f"| {way} | {wrong} % | {'–' if differ is None else f'{differ} %'} |")
    print("\n| end of word to the viewer | p50 | p95 | words | the seed's |\n| --- | --- | --- | --- | --- |")
    for way, kinds in report["latency"].items():
        for kind, row in kinds.items():
            if row:
                print(f"| {kind}, {way} | {row['p50_ms']} ms | {row['p95_ms']} ms | {row['n']} | {SEED_MS[kind]} |")
    for row in report["differences"]:
        print("\n" + "\n".join(f"{key:8} {text}" for key, text in row.items()))


def main():
    parser = argparse.ArgumentParser(description="words and their delay, through the node and straight")
    parser.add_argument("--sessions", type=int, default=4, help="sessions at once (4)")
    parser.add_argument("--utterances", type=int, help="only the first so many")
    parser.add_argument("--rate", type=int, default=44100, help="sample rate of the publisher's AAC (44100)")
    parser.add_argument("--explain", action="store_true", help="where differences come from")
    parser.add_argument("--json", metavar="FILE", help="write the report there too")
    arguments = parser.parse_args()
    codec.set(arguments.rate)
    sessions, left_out = load(arguments.sessions, arguments.utterances)
    if not sessions:
        sys.exit("error: none of the recordings of speech.tsv is installed (tests/packages.txt)")
    ways = play(sessions, arguments.explain)
    report = {"left_out": left_out, **report_on(sessions, ways)}
    show(report)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


if __name__ == "__main__":
    main()
