"""make bench: one table. `python -m tests.bench [SECTION…] [--runs N] [--peers NAME,…] [--budget SECONDS] [--json]`."""

import argparse
import json
import os
import sys
import time

from tests.bench import service, work
from tests.bench.place import Place
from tests.bench.work import Run

SECTIONS = {**work.SECTIONS, **service.SECTIONS}


def main():
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description="Measure, beside peers and bare Python.")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(SECTIONS))
    parser.add_argument("--runs", type=int, default=5, help="of each measurement; medians are shown")
    parser.add_argument("--peers", default="", help="only these, separated by commas: ours,bare,dma,nullmailer,postfix")
    parser.add_argument("--budget", type=float, default=480, help="seconds after which no further run is begun")
    parser.add_argument("--json", action="store_true", help="the rows as JSON instead of a table")
    parser.add_argument("--directory", help="where the queues lie: the file system that is measured (default /var/tmp)")
    options = parser.parse_args()
    for section in options.sections:
        if section not in SECTIONS:
            parser.error(f"no section {section}; there are {', '.join(SECTIONS)}")
    where = Place(options.directory)
    run = Run(where, options.runs, options.peers.split(",") if options.peers else [], options.budget, _progress)
    rows = []
    began = time.monotonic()
    try:
        for section in options.sections or SECTIONS:
            _progress(f"== {section}, load {os.getloadavg()[0]:.1f}")
            rows += SECTIONS[section](run)
    finally:
        where.close()
    if options.json:
        print(json.dumps([vars(row) for row in rows], indent=1))
    else:
        _print(rows)
        print(f"\n{options.runs} runs of each, medians (smallest–largest), {time.monotonic() - began:.0f} s, load "
              f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores. Compare ratios, not seconds.")  # fmt: skip
    return 0


def _progress(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def _print(rows):
    head = ("work", "who", "figure", "compared", "goal", "", "seen")
    table = [head]
    for row in rows:
        figure = "—" if row.value is None else f"{row.value:.{_digits(row.value)}f}"
        if row.low is not None and row.low != row.high:
            figure += f" ({row.low:.{_digits(row.low)}f}–{row.high:.{_digits(row.high)}f})"
        good = {True: "reached", False: "MISSED", None: ""}[row.good]
        table.append((row.work, row.who, f"{figure} {row.unit}", row.ratio, row.goal, good, row.note))
    widths = [max(len(line[column]) for line in table) for column in range(len(head))]
    for number, line in enumerate(table):
        print("| " + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) + " |")
        if not number:
            print("|" + "|".join("-" * (width + 2) for width in widths) + "|")


def _digits(value):
    return 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3


if __name__ == "__main__":
    sys.exit(main())
