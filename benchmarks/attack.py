"""Attacks on `kmm serve`: a table of the outcome of each, and of how long health checks went unanswered meanwhile.

    python benchmarks/attack.py                        this checkout
    python benchmarks/attack.py --checkout FOLDER      the kmm of another checkout
    python benchmarks/attack.py --only gzip PNG        attacks whose names contain one of these words

The attacks are those of tests/server/attacks.py, all on this host. The server runs in its own process and is restarted
after an attack that stopped it.

    attack       name of the attack
    outcome      the attacker's view of it
    gRPC, REST   longest time without an answer to a health check over a new connection, in seconds
    control      the same for a trivial responder: the share of the machine itself
    lines        new lines in the server's log
    memory       growth of the server's memory in MB, afterwards and at most meanwhile
    answers      protocols over which the server answers a request correctly afterwards
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", type=Path, default=ROOT, help="checkout of the kmm that serves")
    parser.add_argument("--hold", type=float, default=3, help="seconds that an attack lasts")
    parser.add_argument("--only", nargs="+", default=[""], help="words of attack names")
    options = parser.parse_args()
    from tests.factories.saved_model import save_tiny
    from tests.server.attacks import ATTACKS
    from tests.server.victim import Victims, measure

    print("| attack | outcome | gRPC s | REST s | control s | lines | memory MB | answers |", flush=True)
    print("|---|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        models = {"tiny": Path(folder, "tiny"), "film": Path(folder, "film")}
        save_tiny(models["tiny"] / "1", 1)
        checkout = {**os.environ, "PYTHONPATH": str(options.checkout.resolve())}
        script = ROOT / "tests" / "server" / "film_classifier.py"
        subprocess.run([sys.executable, script, models["film"]], env=checkout, check=True)
        with Victims(
            models, Path(folder, "servers"), checkout=options.checkout.resolve(), hold=options.hold
        ) as victims:
            for name, attack in ATTACKS.items():
                if any(word in name for word in options.only):
                    try:
                        victim = victims.find(attack.kind)
                    except RuntimeError as error:
                        print(f"| {name} | {error} |", flush=True)
                        continue
                    print(f"| {name} | {write_row(measure(victim, attack.run))} |", flush=True)


def write_row(outcome):
    """Formats an outcome as the cells of a table row."""
    answers = " and ".join(name for name, right in outcome.answered.items() if right) or "no"
    seen = outcome.said + ("; " + outcome.faults[0].replace("|", "/")[:80] if outcome.faults else "")
    silences = [outcome.grpc_silence, outcome.rest_silence, outcome.control]
    cells = [seen, *(f"{seconds:.2f}" for seconds in silences), outcome.lines]
    return " | ".join(map(str, [*cells, f"{outcome.growth:+.0f}, {outcome.peak:+.0f}", answers]))


if __name__ == "__main__":
    main()
