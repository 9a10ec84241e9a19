"""All benchmarks, one after the other."""

from __future__ import annotations

from benchmarks import write_path

if __name__ == "__main__":
    write_path.main()
