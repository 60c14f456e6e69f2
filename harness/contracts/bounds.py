"""How much there may be: bounds that whoever writes evidence and whoever verifies it share.

A run that passes one is stopped, archived small, and not clean: nobody would accept what lies beyond them.
Sizes are bytes.
"""

MIB = 1 << 20

# Of JSON (contracts §1.7).
MAX_DEPTH = 64  # LimitJsonDepth
MAX_LINE_BYTES = MIB  # LimitLineBytes
MAX_DIGITS = 40  # of one integer literal: far beyond 64 bits, and conversion stays linear
MAX_NODES = 2_000_000  # of one document: parsed, each takes some hundred bytes

# Of an archive.
MAX_BUNDLE = 100 * MIB  # packed
MAX_DECODED = 1024 * MIB  # unpacked
MAX_DOCUMENT = 32 * MIB  # a JSON member: parsed, it takes many times its size
MAX_LINES_BYTES = 500 * MIB  # an NDJSON member
MAX_RATIO = 500  # unpacked to packed, once RATIO_FLOOR bytes are unpacked
RATIO_FLOOR = 8 * MIB
MAX_LINES = 1_000_000  # of a kernel layer
MAX_DISTINCT = 500_000  # distinct facts of a kernel layer
MAX_EVENTS = 100_000  # of a layer that is held as models (contracts §1.7)

# Of what a run may give while it goes on.
MAX_RAW_BYTES = 512 * MIB  # kernel records, as they come out of the ring
MAX_RECORDS = 2_000_000
MAX_NAME_BYTES = 64 * MIB  # names in kernel records, each counted once
MAX_CHANNEL_BYTES = 64 * MIB  # lines of one recorder channel
MAX_CHANNEL_LINES = MAX_EVENTS
MAX_PROBLEMS = 1_000  # faults of a channel's lines that are told one by one

# Of a run that passed one of them: what is kept fits into every bound, whatever it says.
KEPT_RECORDS = 5_000
KEPT_NAME_BYTES = MIB // 2
KEPT_LINES = 1_000
KEPT_LINE_BYTES = MIB // 4
