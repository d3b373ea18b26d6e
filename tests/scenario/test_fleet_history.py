"""Nobody is shown a final twice or misses one that Redis had, whatever dies in a fleet: 12 schedules of faults. (release only) (runs alone)"""

import copy

import harness
from fleet_history import checker, faults, generator, run, schedule
from history import faults as driving

SEEDS = range(1, 13)
BESIDE = 2


def sound_viewer(name, connections=2):
    viewer = checker.Viewer(name, "room", connections=[(0.0, None)] * connections)
    for k, epoch in enumerate((100, 200), 1):
        connection = k if connections > 1 else 1
        viewer.shown.append(checker.Shown(k, connection, f"node-{k}", "hello", epoch, 0))
        for seq in range(1, 20):
            is_final = seq % 2 == 0
            viewer.shown.append(checker.Shown(k + seq / 100, connection, f"node-{k}", "transcript", epoch, seq, f"{k}-{seq // 2}",
                                              f"{k} {seq // 2}" if is_final else "", is_final))
        viewer.shown.append(checker.Shown(k + 0.5, connection, f"node-{k}", "end", epoch, 20, text=" publisher_left"))
    return viewer


def sound_history():
    history = checker.History()
    history.viewers = [sound_viewer("a"), sound_viewer("b", 1)]
    finals = {final.position: final.text for final in checker.finals_of(history.viewers[0])}
    history.streams["room"] = finals
    history.said = set(finals.values())
    history.chains["room"] = [(epoch, seq, max(0, seq - 2)) for epoch, seq in finals]
    history.ends["room"] = (200, 20)
    return history


def complaints_when(spoil):
    history = copy.deepcopy(sound_history())
    spoil(history)
    return " / ".join(checker.complaints(history))


def spoilt_viewer(spoil):
    """Spoils what the first viewer was shown."""
    return lambda history: spoil(history.viewers[0].shown)


def gap(begin, end, epoch=100, connection=1):
    return checker.Shown(1.5, connection, "node-1", "gap", epoch, end or begin, gap=(begin, end))


def test_the_checker_finds_what_is_wrong():
    assert complaints_when(lambda history: None) == ""
    final = next(i for i, shown in enumerate(sound_viewer("a").shown) if shown.position == (100, 10))

    def again_later(shown):
        shown.insert(final + 20, copy.copy(shown[final]))

    def two_texts(shown):
        shown[final].text = "1 6"

    def one_ident(shown):
        shown[final].ident = shown[final - 2].ident

    def announced(history):
        del history.viewers[0].shown[final]
        history.viewers[0].shown.insert(final, gap(10, 10))

    spoilt = {
        "in Redis and not shown: 1: a: (100, 10)": spoilt_viewer(lambda shown: shown.pop(final)),
        "shown twice: 2: a: (100, '1-5') on connection 1, a: (100, 10)": spoilt_viewer(again_later),
        "shown twice: 1: a: (100, '1-4')": spoilt_viewer(one_ident),
        "an older epoch again: 1:": spoilt_viewer(again_later),
        "went back: 1: a: transcript (100, 10)": spoilt_viewer(lambda shown: shown.insert(final + 2, copy.copy(shown[final]))),
        "two texts under one number: 1:": spoilt_viewer(two_texts),
        "out of order: 1:": spoilt_viewer(lambda shown: setattr(shown[final], "text", "1 2")),
        "a gap, and nothing was lost: 1: a: 100 (10, 10)": announced,
        "shown and never said: 1: 1 5": lambda history: history.said.remove("1 5"),
        "shown and never in Redis: 1:": lambda history: history.streams["room"].pop((100, 10)),
        "not at the end: 1: a is at (200, 19)": spoilt_viewer(lambda shown: shown.pop()),
        "a hole in a stream: 1: room: (100, 12) follows 10 and stands behind 8": lambda history: history.chains["room"].remove((100, 10, 8)),
        "went back: 1: a: hello of 100": spoilt_viewer(lambda shown: shown.insert(-1, checker.Shown(9, 2, "node-2", "hello", 100, 0))),
    }
    for words, spoil in spoilt.items():
        assert words in complaints_when(spoil), (words, complaints_when(spoil))


def test_the_checker_excuses_what_was_announced():
    final = next(i for i, shown in enumerate(sound_viewer("a").shown) if shown.position == (100, 10))
    history = sound_history()
    history.may_lose = ["redis flushed"]
    shown = history.viewers[0].shown
    del shown[final]
    shown.insert(final, gap(9, 10))
    assert not checker.complaints(history)
    for begin, n in ((gap(8, 8), 1), (gap(11, 11), 1), (gap(10, 10, epoch=200, connection=2), 1)):
        shown[final] = begin
        assert any(text.startswith(f"in Redis and not shown: {n}:") for text in checker.complaints(history)), begin
    history.viewers[0].shown = [*shown[:final], gap(10, None), *[one for one in shown[final + 1:] if one.epoch == 200 and one.connection == 2]]
    assert not checker.complaints(history), checker.complaints(history)
    history = sound_history()
    history.streams["room"].pop((100, 10))
    history.viewers[1].shown = [one for one in history.viewers[1].shown if one.position != (100, 10)]
    assert "shown to others only" in " ".join(checker.complaints(history))
    late = copy.deepcopy(history)
    late.streams["room"][100, 10] = "1 5"
    assert "in Redis and not shown" in " ".join(checker.complaints(late))
    late.late["room"].add((100, 10))
    assert "in Redis and not shown" not in " ".join(checker.complaints(late))
    history.may_part = ["node-1 killed"]
    history.chains["room"] = []
    assert not checker.complaints(history), checker.complaints(history)
    assert checker.figures(history)["known_to_few"] == 1


def test_the_checker_excuses_what_a_node_cut_off_could_not_hear():
    history = sound_history()
    history.streams["room"][150, 2] = "1 99"
    history.said.add("1 99")
    assert "in Redis and not shown" in " ".join(checker.complaints(history))
    history.may_part = ["way-1 cut"]
    assert not checker.complaints(history), checker.complaints(history)
    for viewer in history.viewers:
        viewer.shown = [shown for shown in viewer.shown if shown.kind != "end" or shown.epoch == 200]
    assert "in Redis and not shown" in " ".join(checker.complaints(history))


def test_what_redis_says_is_told_apart():
    message = b"*3\r\n$7\r\nmessage\r\n$12\r\nvc:live:room\r\n$4\r\n{\r\n}\r\n"
    others = b"+PONG\r\n:12\r\n$-1\r\n*-1\r\n*2\r\n*1\r\n:1\r\n$0\r\n\r\n"
    data = message + others
    ends, at = [], 0
    while (end := generator.end_of_value(data, at)) is not None:
        ends.append(end)
        at = end
    assert ends[0] == len(message) and at == len(data) and len(ends) == 6
    assert all(generator.end_of_value(message[:size], 0) is None for size in range(len(message)))


def check(outcomes, n):
    print(run.closing(outcomes))
    assert len(outcomes) == n
    failed = {seed: found for seed, (found, _, _) in outcomes.items() if found}
    assert not failed, failed


def test_a_fleet_without_faults():
    found, figures, _ = schedule.run(0, "direct", plan=[])
    assert not found and figures["gaps"] == figures["known_to_few"] == figures["reconnects"] == 0, (found, figures)


def test_a_way_that_loses_messages_is_healed():
    plan = [driving.Fault(f"way-{i + 1}", "lossy", 0, 7, faults.TARGETS[f"way-{i + 1}"]["lossy"]) for i in range(faults.N_NODES)]
    found, figures, _ = schedule.run(2, "direct", plan=plan)
    assert not found and figures["gaps"] == 0, (found, figures)


def test_histories_of_a_fleet():
    check(run.run(SEEDS, BESIDE), len(SEEDS))


if __name__ == "__main__":
    harness.main(globals())
