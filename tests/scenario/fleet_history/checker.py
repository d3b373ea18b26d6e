"""What must be true of what viewers were shown. Pure: from what was recorded to complaints.

A final is known by (epoch, seq) within its session; its text is "K N": the K-th session of the STT said its N-th.
A viewer is one position that many connections have carried on, as docs/protocol.md says.
"""

import collections
import dataclasses

SHOWN_MAX = 5  # examples in a complaint
UNKNOWN = 2 ** 63


@dataclasses.dataclass
class Shown:
    at: float           # monotonic s
    connection: int     # which of the viewer's
    node: str           # that signed the hello before it
    kind: str
    epoch: int
    seq: int            # a gap's: its `to`, or its `from` where that is unknown
    ident: str = ""     # a transcript's
    text: str = ""      # a final's; a status' or end's reason
    is_final: bool = False
    gap: tuple = ()     # (from, to)

    @property
    def position(self):
        return self.epoch, self.seq


@dataclasses.dataclass
class Viewer:
    name: str
    session: str
    shown: list = dataclasses.field(default_factory=list)  # of Shown
    connections: list = dataclasses.field(default_factory=list)  # (monotonic s, since or None)
    is_slow: bool = False  # what it reads came earlier


class History:
    def __init__(self):
        self.viewers = []
        self.said = set()                             # texts
        self.streams = collections.defaultdict(dict)  # session -> {(epoch, seq): text} of finals that Redis ever held
        self.late = collections.defaultdict(set)      # session -> those that came when a newer epoch had begun
        self.chains = {}        # session -> [(epoch, seq, prevFinal)] of the stream at the end
        self.may_lose = []      # faults that make a gap possible, in words
        self.may_part = []      # faults after which an epoch may have been known to its owner's viewers only
        self.deaths = []        # (monotonic s, node) of nodes that were killed, drained
        self.breaks = []        # s from a publisher's loss to its next publishing
        self.ends = {}          # session -> (epoch, seq) of the end that all must have been shown
        self.healed_s = 0.0


def some(things):
    things = sorted(map(str, things))
    more = f" and {len(things) - SHOWN_MAX} more" if len(things) > SHOWN_MAX else ""
    return f"{', '.join(things[:SHOWN_MAX])}{more}"


def number(text):
    return tuple(int(word) for word in text.split(" "))


def finals_of(viewer):
    return [shown for shown in viewer.shown if shown.is_final]


def last_of(viewer):
    """What it was shown last, hellos left out; None: nothing."""
    return next((shown for shown in reversed(viewer.shown) if shown.kind != "hello"), None)


def steps_back(viewer):
    """Within a connection nothing goes back. A hello has no position, but no epoch that is over; a status may tell the
    present state with the number of what came last; after a gap of unknown size it begins as a newcomer does."""
    connection, last = None, (0, 0)
    for shown in viewer.shown:
        if shown.connection != connection:
            connection, last = shown.connection, (0, 0)
        if shown.kind == "hello":
            if shown.epoch < last[0]:
                yield f"{viewer.name}: hello of {shown.epoch} behind {last}"
        elif shown.kind == "gap" and shown.gap[1] is None:
            last = (0, 0)
        else:
            if shown.position < last or (shown.position == last and shown.kind != "status"):
                yield f"{viewer.name}: {shown.kind} {shown.position} behind {last}"
            last = shown.position


def lives(viewer):
    """What it was shown, cut at gaps of unknown size: behind one it is a newcomer, and may be given again what it had."""
    life = []
    for shown in viewer.shown:
        life.append(shown)
        if shown.kind == "gap" and shown.gap[1] is None:
            yield life
            life = []
    yield life


def epochs_back(viewer):
    """Over all connections: what it has left behind is not said again."""
    for life in lives(viewer):
        newest = 0
        for shown in life:
            if shown.kind != "hello":
                if shown.epoch < newest:
                    yield f"{viewer.name}: {shown.kind} {shown.position} after epoch {newest}"
                newest = max(newest, shown.epoch)


def doubles(viewer):
    for life in lives(viewer):
        seen = set()
        for final in (shown for shown in life if shown.is_final):
            for key in (final.position, (final.epoch, final.ident)):
                if key in seen:
                    yield f"{viewer.name}: {key} on connection {final.connection}"
                seen.add(key)


def disorder(viewer):
    """Finals whose numbers and texts do not grow alike within an epoch."""
    for life in lives(viewer):
        last = {}
        for final in (shown for shown in life if shown.is_final):
            before = last.get(final.epoch)
            if before and number(final.text) <= number(before.text):
                yield f"{viewer.name}: {final.position} {final.text} behind {before.position} {before.text}"
            last[final.epoch] = final


def excused(viewer):
    """[((epoch, seq), (epoch, seq))]: what its gaps announced, both ends included."""
    spans = []
    for i, shown in enumerate(viewer.shown):
        if shown.kind != "gap":
            continue
        begin, end = shown.gap
        if end is not None:
            spans.append(((shown.epoch, begin), (shown.epoch, end)))
            continue
        after = next((other.position for other in viewer.shown[i + 1:] if other.kind not in ("hello", "gap")), (UNKNOWN, 0))
        spans.append(((shown.epoch, begin), after))  # then as for a newcomer
    return spans


def lived(viewer):
    """Its first and last position."""
    positions = [shown.position for shown in viewer.shown if shown.kind not in ("hello", "gap")]
    return (min(positions), max(positions)) if positions else ((UNKNOWN, 0), (0, 0))


def unheard(viewer):
    """Epochs that began and were over elsewhere while its node, which had said the end of the one before, was cut off."""
    met = {shown.epoch for shown in viewer.shown}
    ended = {shown.epoch for shown in viewer.shown if shown.kind == "end"}
    return lambda epoch: epoch not in met and max((other for other in met if other < epoch), default=None) in ended


def missing(viewer, known, may_be_unheard):
    """Of the finals that are known those that it should have been shown and was not."""
    first, last = lived(viewer)
    is_unheard = unheard(viewer) if may_be_unheard else lambda epoch: False
    spans = excused(viewer)
    seen = {final.position for final in finals_of(viewer)}
    for position in known:
        if first <= position <= last and position not in seen and not is_unheard(position[0]) and \
                not any(begin <= position <= end for begin, end in spans):
            yield position


def broken_chains(history):
    """Places at which a stream has a hole within an epoch."""
    for session, chain in history.chains.items():
        last = {}
        for epoch, seq, before in chain:
            if epoch in last and last[epoch] != before:
                yield f"{session}: {(epoch, seq)} follows {before} and stands behind {last[epoch]}"
            last[epoch] = seq


def by_session(history):
    sessions = collections.defaultdict(list)
    for viewer in history.viewers:
        sessions[viewer.session].append(viewer)
    return sessions


def texts_of(viewers):
    """{(epoch, seq): texts} of all that any of them was shown."""
    texts = collections.defaultdict(set)
    for viewer in viewers:
        for final in finals_of(viewer):
            texts[final.position].add(final.text)
    return texts


def known_to_few(history):
    """Finals that some viewer was shown and Redis never held: what an owner said while it was alone."""
    return {(session, *position) for session, viewers in by_session(history).items()
            for position in texts_of(viewers) if position not in history.streams[session]}


def complaints(history):
    found = []

    def complain(what, things):
        things = list(things)
        if things:
            found.append(f"{what}: {len(things)}: {some(things)}")

    for viewer in history.viewers:
        complain("went back", steps_back(viewer))
        complain("an older epoch again", epochs_back(viewer))
        complain("shown twice", doubles(viewer))
        complain("out of order", disorder(viewer))
        if not history.may_lose:
            complain("a gap, and nothing was lost", [f"{viewer.name}: {shown.epoch} {shown.gap}" for shown in viewer.shown
                                                     if shown.kind == "gap"])
    for session, viewers in by_session(history).items():
        texts = texts_of(viewers)
        complain("two texts under one number", [(session, *key) for key, said in texts.items()
                                                if len(said | {history.streams[session].get(key, min(said))}) > 1])
        complain("shown and never said", {text for said in texts.values() for text in said} - history.said)
        for viewer in viewers:
            complain("in Redis and not shown", [f"{viewer.name}: {position}" for position in
                                                missing(viewer, history.streams[session].keys() - history.late[session],
                                                        history.may_part)])
            if not history.may_part:
                complain("shown to others only", [f"{viewer.name}: {position}" for position in missing(viewer, texts, False)
                                                  if position not in history.streams[session]])
        if session in history.ends:
            lasts = {viewer.name: getattr(last_of(viewer), "position", None) for viewer in viewers}
            complain("not at the end", [f"{name} is at {last}, not {history.ends[session]}" for name, last in lasts.items()
                                        if last != history.ends[session]])
    complain("a hole in a stream", broken_chains(history))
    if not history.may_part:
        complain("shown and never in Redis", known_to_few(history))
    return found


def recoveries(history):
    """s from a node's death to the first message at each viewer that had been on it."""
    for died, node in history.deaths:
        for viewer in (viewer for viewer in history.viewers if not viewer.is_slow):
            before = [shown for shown in viewer.shown if shown.at <= died]
            after = next((shown for shown in viewer.shown if shown.at > died and shown.connection > before[-1].connection), None) \
                if before and before[-1].node == node else None
            if after:
                yield after.at - died


def spread(values):
    values = sorted(values)
    return (round(values[len(values) // 2], 2), round(values[-1], 2)) if values else (0, 0)


def figures(history):
    shown = [len(finals_of(viewer)) for viewer in history.viewers]
    viewer_p50, viewer_max = spread(recoveries(history))
    publisher_p50, publisher_max = spread(history.breaks)
    return {
        "said": len(history.said), "viewers": len(history.viewers), "shown_least": min(shown, default=0), "shown_sum": sum(shown),
        "in_redis": sum(map(len, history.streams.values())), "known_to_few": len(known_to_few(history)),
        "epochs": len({(viewer.session, one.epoch) for viewer in history.viewers for one in viewer.shown if one.epoch}),
        "gaps": sum(one.kind == "gap" for viewer in history.viewers for one in viewer.shown),
        "reconnects": sum(max(0, len(viewer.connections) - 1) for viewer in history.viewers),
        "viewer_back_p50_s": viewer_p50, "viewer_back_max_s": viewer_max,
        "publisher_back_p50_s": publisher_p50, "publisher_back_max_s": publisher_max, "healed_max_s": round(history.healed_s, 1),
    }
