"""The alarms of Redis in the real Prometheus, rung by a real redis-server. (release only)"""

import json

import alarms
import harness
from redis_server import RedisServer
from scripted_stt import ScriptedStt

prometheus = None  # alarms.run makes it


def test_a_redis_that_is_away():
    with RedisServer() as redis, ScriptedStt() as stt, \
            alarms.watched_node(prometheus, stt.url, REDIS_URL=redis.url) as (_, address):
        redis.freeze()
        prometheus.wait_firing(address, "VerbacastRedisDegraded")
        redis.thaw()
        prometheus.wait_silent(address, "VerbacastRedisDegraded")


def test_a_session_that_somebody_else_numbers():
    with RedisServer() as redis, ScriptedStt(0.2) as stt, \
            alarms.watched_node(prometheus, stt.url, REDIS_URL=redis.url) as (node, address), \
            harness.publisher(node, "room") as publisher:
        for _ in range(5):
            epoch = harness.wait_until(lambda: (redis.stream("room") or [(0,)])[-1][0], "the session is in Redis")
            redis.ask("XADD", "vc:history:room", f"{epoch}-1000000", "message", f'{{"v":1,"node":"other","epoch":{epoch}}}')
            harness.wait_until(lambda at=epoch: redis.stream("room")[-1][0] > at, "the node claims it again")
        prometheus.wait_firing(address, "VerbacastRedisFenced")
        publisher.stop()
        prometheus.wait_silent(address, "VerbacastRedisFenced")


def lost_final(epoch, seq, prev_final):
    frame = {"type": "transcript", "session": "room", "epoch": epoch, "seq": seq, "utteranceId": "1-0-1", "isFinal": True,
             "text": "Lost and found.", "language": "en", "speaker": None, "confidence": 0.9, "start": 1.0, "end": 2.0,
             "sentAt": 1.0, "words": None}
    return json.dumps({"v": 1, "node": "other", "epoch": epoch, "seq": seq, "prevFinal": prev_final, "startedAt": 1.0,
                       "receivedAt": 1.0, "frame": frame})


def test_what_another_node_said_is_lost():
    with RedisServer() as redis, ScriptedStt() as stt, \
            alarms.watched_node(prometheus, stt.url, REDIS_URL=redis.url) as (node, address), \
            harness.viewer(node, "room") as viewer:
        harness.wait_until(lambda: redis.subscribers("vc:live:room") == 1, "the session is watched")
        redis.ask("PUBLISH", "vc:live:room", lost_final(5, 9, 7))
        assert viewer.wait_type("gap")["to"] == 7
        viewer.wait_finals(1)
        prometheus.wait_firing(address, "VerbacastRedisGaps")
        prometheus.wait_silent(address, "VerbacastRedisGaps")


if __name__ == "__main__":
    alarms.run(globals(), "verbacast-redis")
