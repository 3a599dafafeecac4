"""The table of hostile cases: `python tests/hostile/hostile_table.py --cases 500` prints verdicts.

Run from the root of the project. Failing cases are listed with class and number, by which tests make them again.
"""

import argparse
import collections
import json
import pathlib
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).parents[2]), str(pathlib.Path(__file__).parent)]

import numpy  # noqa: E402
from hostile_base import make_base  # noqa: E402
from hostile_generators import CLASSES  # noqa: E402
from hostile_harness import run_tok  # noqa: E402


def main() -> None:
    """Try every class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--classes", default=",".join(sorted(CLASSES)))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--show", action="store_true", help="print the end of stderr of each failing case")
    options = parser.parse_args()
    table: dict[str, collections.Counter[str]] = {}
    failing: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        base = pathlib.Path(scratch, "base")
        base.mkdir()
        make_base(base)
        for kind in options.classes.split(","):
            table[kind] = collections.Counter()
            for number in range(options.first, options.first + options.cases):
                with tempfile.TemporaryDirectory(dir=scratch) as outer:
                    folder = pathlib.Path(outer, "work")  # a case may look into the folder above its own
                    folder.mkdir()
                    generator = numpy.random.default_rng([sorted(CLASSES).index(kind), number])
                    arguments = CLASSES[kind](generator, base, folder)
                    ended = run_tok(arguments, folder)
                table[kind][ended.verdict] += 1
                if not ended.is_fine:
                    last = ended.err.strip().splitlines()[-1:] or [""]
                    failing.append({"class": kind, "number": number, "verdict": ended.verdict, "last": last[0][:160]})
                    if options.show:
                        print(
                            f"--- {kind} {number}: {ended.verdict}\ntok {arguments}\n{ended.err[-1500:]}",
                            file=sys.stderr,
                        )
    if options.json:
        print(json.dumps({"table": table, "failing": failing}))
        return
    verdicts = sorted({verdict for row in table.values() for verdict in row})
    print(f"{'class':12}" + "".join(f"{verdict:>11}" for verdict in verdicts))
    for kind, row in table.items():
        print(f"{kind:12}" + "".join(f"{row[verdict]:>11}" for verdict in verdicts))
    for case in failing:
        print(f"{case['class']} {case['number']}: {case['verdict']}: {case['last']}")


if __name__ == "__main__":
    main()
