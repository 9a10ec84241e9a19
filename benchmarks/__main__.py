"""All benchmarks, one after the other."""

from __future__ import annotations

from benchmarks import bulk_update, command, flush_size, locked, write_path
from benchmarks.delivery import claims, isolation, latency, many_relays, outage, post

if __name__ == "__main__":
    options = command.options(command.parser("benchmarks", __doc__).parse_args())
    print(command.about())
    write_path.run(options)
    flush_size.run(options)
    bulk_update.run(options)
    if "sqlite" in options.databases:
        locked.run(options)
    for one in (post, latency, outage, claims, isolation, many_relays):
        one.run(options)
