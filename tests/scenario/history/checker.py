"""What must be true of a database once all is healed. Pure: from what was traced to complaints.

A final is known by (slug, epoch, seq). Its text is "K N": the K-th session of the STT said its N-th.
"""

import collections

SHOWN_MAX = 5  # examples in a complaint


class History:
    def __init__(self):
        self.promised = set()    # keys whose journal_committed was traced
        self.said = set()        # texts that the STT said
        self.shown = {}          # key -> monotonic s at which a viewer first read it
        self.crashes = []        # monotonic s of each kill of the node
        self.frozen = []         # (from, to) monotonic s in which the node could do nothing
        self.rows = []           # (key, text) of the database
        self.records = []        # (key, text) of the topic, each partition in its order
        self.dead = []           # values of the dead letters
        self.meant_dead = set()  # values that were made to be dead letters
        self.open_sessions = []  # (slug, epoch) of the database without an end


def some(things):
    things = sorted(things)
    more = f" and {len(things) - SHOWN_MAX} more" if len(things) > SHOWN_MAX else ""
    return f"{', '.join(map(str, things[:SHOWN_MAX]))}{more}"


def number(text):
    return tuple(int(word) for word in text.split(" "))


def doubles(things):
    return {thing for thing, count in collections.Counter(things).items() if count > 1}


def disorder(rows):
    """Pairs of rows of one session and epoch whose seqs and texts do not grow alike."""
    by_epoch = collections.defaultdict(list)
    for (slug, epoch, seq), text in rows:
        by_epoch[slug, epoch].append((seq, number(text)))
    for (slug, epoch), finals in by_epoch.items():
        finals.sort()
        for (_, before), (seq, now) in zip(finals, finals[1:]):
            if now <= before:
                yield (slug, epoch, seq), f"{now} behind {before}"


def first_occurrences(records):
    seen = set()
    for key, text in records:
        if key not in seen:
            seen.add(key)
            yield key, text


def awake_s(history, begin, end):
    """How long the node could have done something between the two."""
    return end - begin - sum(max(0, min(end, until) - max(begin, since)) for since, until in history.frozen)


def lost_with_age(history):
    """{key: s from the screen to the node's next crash, frozen ones left out}; None where no crash followed."""
    kept = {key for key, _ in history.rows}
    return {key: min((awake_s(history, at, crash) for crash in history.crashes if crash >= at), default=None)
            for key, at in history.shown.items() if key not in kept}


def complaints(history):
    keys = [key for key, _ in history.rows]
    texts = [text for _, text in history.rows]
    found = []

    def complain(what, things):
        if things:
            found.append(f"{what}: {len(things)}: {some(things)}")

    complain("committed and not in the database", history.promised - set(keys))
    complain("twice in the database", doubles(keys))
    complain("one text in two rows", doubles(texts))
    complain("in the database and never said", set(texts) - history.said)
    if not set(texts) - history.said:
        complain("out of order in the database", list(disorder(history.rows)))
    complain("shown, not in the database, and the node did not crash", {
        key for key, age in lost_with_age(history).items() if age is None})
    complain("in the database and not in the topic", set(keys) - {key for key, _ in history.records})
    last = {}
    for (slug, epoch, seq), _ in first_occurrences(history.records):
        if seq < last.get((slug, epoch), 0):
            complain("out of order in the topic", [(slug, epoch, seq)])
        last[slug, epoch] = seq
    complain("dead and not meant to be", [value for value in history.dead if value not in history.meant_dead])
    complain("meant to be dead and kept from it", history.meant_dead - set(history.dead))
    complain("sessions without an end", history.open_sessions)
    return found


def figures(history):
    ages = [age for age in lost_with_age(history).values() if age is not None]
    return {
        "said": len(history.said), "shown": len(history.shown), "committed": len(history.promised),
        "rows": len(history.rows), "records": len(history.records), "crashes": len(history.crashes),
        "shown_and_lost": len(ages), "oldest_lost_ms": round(max(ages, default=0) * 1000),
    }
