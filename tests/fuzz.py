"""A fuzzing campaign: every target of fuzz_targets, or those named, each in a process of its own, guided by coverage.

    make fuzz                                    a minute each
    python tests/fuzz.py --seconds 3600 header   an hour for one

What was found that is new to a target is kept in .fuzz/NAME and is where the next campaign begins; an input that breaks an
invariant is shown with its traceback, kept as .fuzz/NAME-crash-*, and ends the campaign with exit status 1. Needs atheris.
"""

import argparse
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KEPT = ROOT / ".fuzz"


def main():
    parser = argparse.ArgumentParser(description="Fuzz the rooms that read what others wrote.")
    parser.add_argument("names", nargs="*", help="targets; all by default")
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--one", metavar="NAME", help=argparse.SUPPRESS)  # in the child
    asked, rest = parser.parse_known_args()
    if asked.one:
        return fuzz(asked.one, rest)
    sys.path.insert(0, str(ROOT / "tests"))
    import fuzz_targets

    broken = []
    for name in asked.names or fuzz_targets.TARGETS:
        words = fuzz_targets.TARGETS[name][1]
        corpus = KEPT / name
        corpus.mkdir(parents=True, exist_ok=True)
        (KEPT / f"{name}.dict").write_text("".join(f'"{escaped(word)}"\n' for word in words))
        for at, word in enumerate(words):
            (corpus / f"word-{at}").write_bytes(word)
        print(f"== {name}: {asked.seconds} s", flush=True)
        ran = subprocess.run(
            [sys.executable, __file__, "--one", name, f"-max_total_time={asked.seconds}", "-max_len=3000", "-timeout=20",
             f"-dict={KEPT}/{name}.dict", f"-artifact_prefix={KEPT}/{name}-", "-verbosity=0", "-print_final_stats=1", str(corpus)],
            check=False,
        )  # fmt: skip
        if ran.returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken)}" if broken else "every invariant held")
    return 1 if broken else 0


def escaped(word):
    return "".join(f"\\x{byte:02x}" for byte in word)


def fuzz(name, words):
    """In the child: does not return."""
    import atheris

    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    with atheris.instrument_imports(include=["dma_runtime"]):
        import fuzz_targets
    target = fuzz_targets.TARGETS[name][0]
    atheris.Setup([sys.argv[0], *words], target)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
