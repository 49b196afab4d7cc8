"""What other people's test-suites pay: servers, tests, and the plugin that they do not use.

python tests/benchmarks/fixture.py        how long each takes
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

from voisnap_mock import MockServer

ROOT = Path(__file__).parent.parent.parent
AGENTS = r"""
version: 1
agents:
  agt_support:
    greeting: Hi, this is Acme. How can I help you today? Please tell me in a few words what it is about.
    replies:
      - hear: refund
        say: Sure. What is the order number? You find it in the mail that we have sent you, at the top of it.
        goto: order
    states:
      order:
        - hear: '/(?P<order>\d[\d ]{3,})/'
          say: >-
            Order {{ order }} is refunded. You will have your money within three days. Is there anything else that we
            can do for you, or would you like to talk to a person?
        - hear: "no"
          say: Then thank you for calling Acme, and have a nice day. Goodbye.
          end: agent_ended
"""
FIRST = """
from time import perf_counter
began = perf_counter()
from voisnap_mock import MockServer
MockServer(clock="virtual").start()
print((perf_counter() - began) * 1000)
"""


def first_server() -> float:
    """Milliseconds of a process's first server until it answers, imports and all."""
    done = subprocess.run([sys.executable, "-c", FIRST], capture_output=True, text=True, check=True)
    return float(done.stdout)


def another_server() -> tuple[float, float]:
    """Milliseconds that a further server takes to start, and to stop."""
    began = perf_counter()
    server = MockServer(clock="virtual").start()
    started = perf_counter()
    server.stop()
    return (started - began) * 1000, (perf_counter() - started) * 1000


def one_test(server: MockServer) -> tuple[float, float]:
    """Milliseconds of a test with one scripted call, and how long that is in call time."""
    began = perf_counter()
    with server.mock(AGENTS) as mock, mock.expect_call("agt_support") as call, mock.caller("agt_support") as caller:
        caller.heard()
        for words in ("I want a refund", "four one seven nine"):
            caller.say(words)
            caller.heard()
        caller.say("no")
        caller.hears_end()
    return (perf_counter() - began) * 1000, call.t


def plugin(rounds: int) -> float:
    """Milliseconds that the plugin adds to a run of pytest that does not use it: the median of the differences."""

    def run(*more: str) -> float:
        began = perf_counter()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *more]
        environment = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": str(ROOT)}
        subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, check=True)
        return (perf_counter() - began) * 1000

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "test_nothing.py").write_text("def test_nothing(): pass\n")
        run("-p", "voisnap_mock.pytest_plugin")
        return median(run("-p", "voisnap_mock.pytest_plugin") - run() for _ in range(rounds))


def figures(*, quick: bool) -> dict[str, object]:
    """All of them."""
    rounds, tests = (2, 3) if quick else (9, 200)
    servers = [another_server() for _ in range(rounds + 1)][1:]
    with MockServer(clock="virtual") as server:
        one_test(server)
        began = perf_counter()
        took, lengths = zip(*(one_test(server) for _ in range(tests)), strict=True)
        all_tests = perf_counter() - began
    return {
        "first_server_ms": round(median(first_server() for _ in range(rounds))),
        "server_ms": round(median(start for start, _ in servers), 1),
        "stop_ms": round(median(stop for _, stop in servers), 1),
        "call_seconds": lengths[0],
        "test_ms": round(median(took), 1),
        "tests": tests,
        "tests_s": round(all_tests, 1),
        "unused_plugin_ms": round(plugin(rounds), 1),
    }


def lines() -> Iterator[str]:
    for name, value in figures(quick=False).items():
        yield f"{name:18} {value}"


if __name__ == "__main__":
    print("\n".join(lines()))
