"""What real publishers send: codecs, rates, channels, video beside, ffmpeg and GStreamer."""

import array
import subprocess

import harness
import rtmp_peer
from scripted_stt import ScriptedStt

SECONDS = 4
TONE = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100")
PICTURE = ("-f", "lavfi", "-i", "testsrc=size=160x120:rate=15")


def expect_sound(stt, slug, least_s=SECONDS - 0.7):
    """The session ended, and about as much sound as was sent has come to the STT."""
    def found():
        return [session for session in stt.sessions.values()
                if session.request["custom_metadata"]["session"] == slug]
    harness.wait_until(lambda: found() and found()[0].is_stopped, f"the end of {slug}")
    sessions = found()
    assert len(sessions) == 1, (slug, len(sessions))
    seconds = sessions[0].received / 32000
    assert least_s <= seconds <= SECONDS + 1.5, (slug, seconds)


def publish(node, slug, **how):
    with harness.publisher(node, slug, seconds=SECONDS, **how) as publisher:
        assert publisher.wait() == 0, publisher.errors()


def codecs():
    """What ffmpeg is told, by the session's name."""
    video = ("-c:v", "libx264", "-preset", "ultrafast")
    mp3 = ("-ac", "2", "-ar", "44100", "-c:a", "libmp3lame")
    cases = {f"aac-{channels}-{rate_hz}": dict(encode=("-ac", channels, "-ar", rate_hz, "-c:a", "aac"))
             for channels in ("1", "2") for rate_hz in ("16000", "44100", "48000")}
    return {**cases,
            "mp3": dict(encode=mp3),
            "aac-with-video": dict(source=(*TONE, *PICTURE), encode=("-c:a", "aac", *video)),
            "mp3-with-video": dict(source=(*TONE, *PICTURE), encode=(*mp3, *video))}


def test_ffmpeg_codecs():
    cases = codecs()
    with ScriptedStt() as stt, harness.node(stt.url) as node:
        running = {slug: harness.publisher(node, slug, seconds=SECONDS, **how) for slug, how in cases.items()}
        for slug, publisher in running.items():
            with publisher:
                assert publisher.wait() == 0, (slug, publisher.errors())
            expect_sound(stt, slug)


def gstreamer(node, slug, sink):
    """What an egress runs: flvmux streamable ! an RTMP sink, ended properly."""
    command = ["gst-launch-1.0", "-q", "-e", "audiotestsrc", "is-live=true", "samplesperbuffer=441",
               f"num-buffers={SECONDS * 100}", "!", "audio/x-raw,rate=44100,channels=2", "!", "identity", "sync=true",
               "!", "voaacenc", "bitrate=128000", "!", "aacparse", "!", "flvmux", "streamable=true",
               "skip-backwards-streams=true", "!", "queue", "!", *sink]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=harness.PATIENCE_S)
    assert run.returncode == 0, run.stdout


def test_gstreamer_sinks():
    with ScriptedStt() as stt, harness.node(stt.url, SESSION_RESUME_MS=500) as node:
        url = f"rtmp://{node.addresses['rtmp']}/live"
        gstreamer(node, "rtmp2", ["rtmp2sink", "async-connect=false", "async=false", "sync=false", f"location={url}/rtmp2"])
        expect_sound(stt, "rtmp2")
        gstreamer(node, "librtmp", ["rtmpsink", "sync=false", f"location={url}/librtmp live=1"])
        expect_sound(stt, "librtmp")


def he_aac_config(rate_index, doubled_index, channels):
    """An AudioSpecificConfig that signals SBR explicitly: HE-AAC over frames of the first rate."""
    fields = ((5, 5), (rate_index, 4), (channels, 4), (doubled_index, 4), (2, 5), (0, 3))
    bits = "".join(f"{value:0{width}b}" for value, width in fields)
    return int(bits.ljust(32, "0"), 2).to_bytes(4, "big")


def adts_frames(rate_hz):
    command = ["ffmpeg", "-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", f"sine=frequency=440:sample_rate={rate_hz}",
               "-t", str(SECONDS), "-ac", "1", "-c:a", "aac", "-f", "adts", "-"]
    stream = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=harness.PATIENCE_S).stdout
    frames = []
    while stream:
        size = (stream[3] & 3) << 11 | stream[4] << 3 | stream[5] >> 5
        frames.append(stream[7:size])
        stream = stream[size:]
    return frames


def tone_hz(sound):
    """By its zero crossings, without the first and last quarter of a second."""
    samples = array.array("h", sound)[4000:-4000]
    crossings = sum(1 for one, next_one in zip(samples, samples[1:]) if (one < 0) != (next_one < 0))
    return crossings / 2 / (len(samples) / 16000)


def test_signalled_he_aac_without_sbr_in_its_frames():
    frames = adts_frames(22050)
    with ScriptedStt() as stt, harness.node(stt.url) as node, harness.viewer(node, "he") as viewer:
        stt.keeps_sound = True
        viewer.wait_type("hello")  # it watches before the end, which comes within milliseconds
        with rtmp_peer.RtmpPeer(node) as peer:
            peer.publish("he")
            peer.message(rtmp_peer.AUDIO, b"\xaf\x00" + he_aac_config(7, 4, 1))
            for number, frame in enumerate(frames):
                peer.message(rtmp_peer.AUDIO, b"\xaf\x01" + frame, timestamp_ms=number * 1024 * 1000 // 22050)
            peer.unpublish()
            viewer.wait_type("end")
        (session,) = stt.sessions.values()
        seconds, want_s = session.received / 32000, len(frames) * 1024 / 22050
        assert abs(seconds - want_s) < 0.1, (seconds, want_s)
        assert abs(tone_hz(session.sound) - 440) < 5, tone_hz(session.sound)
        counters = harness.http_json(node.url("admin", "/metrics"))["counters"]
        assert counters["decode.frames_total"] == len(frames), counters
        assert counters["decode.silence_ms_total"] == 0, counters


if __name__ == "__main__":
    harness.main(globals())
