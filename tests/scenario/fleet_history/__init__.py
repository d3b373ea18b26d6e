"""The fleet's history checker: numbered finals go to viewers of all nodes while nodes, Redis and the ways to it die.

    generator   who speaks and who watches: publishers and viewers that come back, and what Redis' streams hold
    faults      what dies, freezes, empties, is cut off or loses, by a seed
    checker     what each viewer must have been shown, over all of its connections; knows nothing of how
    schedule    one seed: three nodes, a real Redis, a way to it for each, HAProxy before them or nothing
    run         seeds by the command line
"""
