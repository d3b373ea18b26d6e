"""A hundred publishers that send rubbish beside one that is real: nothing grows, nothing is missed. (runs alone)"""

import concurrent.futures
import os
import random
import re
import time

import harness
import rtmp_peer
from scripted_stt import ScriptedStt

N_HOSTILE = 100
GROWTH_MAX_KIB = 16 * 1024  # one of the large messages kept whole would be more


def noise(peer, dice):
    peer.send(bytes([dice.randrange(4, 256)]) + dice.randbytes(dice.randrange(8192)))


def noise_after_handshake(peer, dice):
    peer.handshake()
    peer.send(dice.randbytes(dice.randrange(1, 65536)))


def half_a_handshake(peer, dice):
    peer.send(b"\x03" + dice.randbytes(dice.randrange(rtmp_peer.HANDSHAKE_SIZE)))


def handshake_without_its_end(peer, dice):
    peer.send(b"\x03" + dice.randbytes(rtmp_peer.HANDSHAKE_SIZE))
    peer.receive(1 + 2 * rtmp_peer.HANDSHAKE_SIZE)


def large(dice):
    return dice.choice((rtmp_peer.AUDIO, rtmp_peer.DATA, rtmp_peer.COMMAND, rtmp_peer.AGGREGATE))


def announce_16_mib(peer, dice):
    peer.handshake()
    peer.send(rtmp_peer.chunk_header(large(dice), rtmp_peer.LENGTH_MAX))


def announce_16_mib_as_publisher(peer, dice):
    peer.publish(f"hostile-{dice.getrandbits(64)}")
    peer.send(rtmp_peer.chunk_header(large(dice), rtmp_peer.LENGTH_MAX))


def send_16_mib(peer, dice):
    peer.publish(f"hostile-{dice.getrandbits(64)}")
    peer.message(large(dice), bytes(rtmp_peer.LENGTH_MAX))


def send_16_mib_of_picture(peer, dice):
    """Allowed: it is parsed past. Then nothing more comes."""
    peer.publish(f"hostile-{dice.getrandbits(64)}")
    peer.message(rtmp_peer.VIDEO, bytes(rtmp_peer.LENGTH_MAX))


KINDS = (noise, noise_after_handshake, half_a_handshake, handshake_without_its_end, announce_16_mib,
         announce_16_mib_as_publisher, send_16_mib, send_16_mib_of_picture)


def be_hostile(node, number, seed):
    """Returns when the node has closed the connection."""
    with rtmp_peer.RtmpPeer(node) as peer:
        try:
            KINDS[number % len(KINDS)](peer, random.Random(seed))
        except ConnectionError:
            pass
        peer.wait_close()


def memory_kib(node, row):
    with open(f"/proc/{node.process.pid}/status", encoding="ascii") as status:
        return int(re.search(rf"^{row}:\s*(\d+) kB$", status.read(), re.M).group(1))


def expect_no_growth(node, before_kib):
    if "san" in harness.CONFIGURATION:
        return  # a sanitizer's allocator keeps what was freed
    grown = {row: memory_kib(node, row) - before_kib for row in ("VmRSS", "VmHWM")}
    print(f"grown by {grown} KiB")
    assert max(grown.values()) < GROWTH_MAX_KIB, grown


def expect_counted(node):
    counters = harness.http_json(node.url("admin", "/metrics"))["counters"]
    closed = counters["ingest.protocol_errors_total"] + counters["ingest.timeouts_total"]
    assert closed == N_HOSTILE, counters
    assert counters["ingest.connections_total"] == N_HOSTILE + 1, counters


def expect_whole(viewer):
    finals = [final["text"] for final in viewer.finals()]
    assert finals == [f"utterance {number}" for number in range(len(finals))], finals
    seqs = [message["seq"] for message in viewer.messages if message["type"] != "hello"]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs))), seqs


def test_a_hundred_hostile_publishers():
    seed = int(os.environ.get("VC_SEED", time.time_ns() % 2 ** 32))
    print(f"VC_SEED={seed}", flush=True)
    dice = random.Random(seed)
    with ScriptedStt() as stt, harness.node(stt.url, INGEST_IDLE_TIMEOUT_MS=2000, SESSION_RESUME_MS=500) as node, \
            harness.viewer(node, "real") as viewer, harness.publisher(node, "real") as real:
        viewer.wait_finals(2)
        before_kib = memory_kib(node, "VmRSS")
        with concurrent.futures.ThreadPoolExecutor(N_HOSTILE) as pool:
            for done in [pool.submit(be_hostile, node, number, dice.getrandbits(64)) for number in range(N_HOSTILE)]:
                done.result()
        expect_counted(node)
        expect_no_growth(node, before_kib)
        viewer.wait_finals(len(viewer.finals()) + 2)
        real.stop()
        viewer.wait_type("end")
        expect_whole(viewer)
        sound_s = sum(session.received for session in stt.sessions.values()) / 32000
        assert len(viewer.finals()) >= int(sound_s), (len(viewer.finals()), sound_s)


if __name__ == "__main__":
    harness.main(globals())
