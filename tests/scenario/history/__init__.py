"""The history checker: numbered finals go the whole way of what is kept while everything on it dies.

    generator   who speaks and who watches: publishers, numbered finals, viewers
    faults      what dies, freezes or is cut off, when and for how long, by a seed
    checker     what the database must hold afterwards; knows nothing of how it came to it
    schedule    one seed: real Kafka, real PostgreSQL, node and sinks, put together
    run         seeds by the command line
"""
