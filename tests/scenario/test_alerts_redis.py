"""The alarms of Redis in the real Prometheus, rung by a real redis-server. (release only)"""

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
            redis.ask("XADD", "vc:history:room", f"{epoch + 1}-0", "message", '{"v":1,"node":"other"}')
            harness.wait_until(lambda at=epoch: redis.stream("room")[-1][0] > at + 1, "the node claims it again")
        prometheus.wait_firing(address, "VerbacastRedisFenced")
        publisher.stop()
        prometheus.wait_silent(address, "VerbacastRedisFenced")


if __name__ == "__main__":
    alarms.run(globals(), "verbacast-redis")
