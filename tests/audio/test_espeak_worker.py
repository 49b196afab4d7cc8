import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voisnap_mock.audio.espeak import worker_command, worker_environment
from voisnap_mock.audio.espeak_worker import Message, MessageReader, encode, receive

WITHOUT_PYTTSX3 = "import sys; sys.modules['pyttsx3'] = None"
IN_A_DEEP_FOLDER = "import sys; sys.path.insert(0, {folder!r})"
CHATTY = (
    "import os, ctypes; from voisnap_mock.audio import espeak_worker as w; speak = w.Espeak.speak\n"
    "w.Espeak.speak = lambda *a, **k: (print('from Python', flush=True), os.write(1, b'from C'), speak(*a, **k))[2]"
)


class Worker:
    """A real worker process, driven by hand."""

    def __init__(self, first: str = "") -> None:
        code = f"{first}\nimport sys\nfrom voisnap_mock.audio.espeak_worker import main\nsys.exit(main())"
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code] if first else worker_command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env=worker_environment(),
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout

    def read(self) -> tuple[Message, bytes] | None:
        return receive(self.output)

    def greet(self) -> str:
        engine, ready = self.read(), self.read()
        assert engine is not None
        assert ready == ({"ready": True}, b"")
        return engine[0]["engine"]

    def speak(self, piece: str, **settings: object) -> tuple[bytes, list[tuple[str, float, float]]]:
        request = {"piece": piece, "voice": "en-us", "rate": 175, "volume": 1.0, "sample_rate": 24000} | settings
        self.input.write(encode(request))
        self.input.flush()
        pcm, words = bytearray(), []
        while True:
            answer = self.read()
            assert answer is not None
            message, audio = answer
            assert "error" not in message, message
            at = len(pcm) / 2 / request["sample_rate"]
            words += [(text, begin + at, end + at) for text, begin, end in message["words"]]
            pcm += audio
            if message["is_last"]:
                return bytes(pcm), words

    def errors(self) -> str:
        self.stderr.seek(0)
        with self.stderr:
            return self.stderr.read().decode()

    def end(self) -> int:
        self.input.close()
        code = self.process.wait(5)
        self.output.close()
        self.stderr.close()
        return code


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    assert worker.greet().startswith("espeak-ng 1.")
    yield worker
    assert worker.end() == 0


def loudness(pcm: bytes) -> float:
    return float(np.sqrt(np.square(np.frombuffer(pcm, "<i2").astype(float)).mean()))


# --- Messages -------------------------------------------------------------------------------------------------

messages = st.lists(st.tuples(st.dictionaries(st.text(max_size=5), st.integers()), st.binary(max_size=30)), max_size=5)


@given(messages, st.integers(1, 9))
def test_messages_survive_any_cutting(sent: list[tuple[Message, bytes]], size: int) -> None:
    stream = b"".join(encode(*message) for message in sent)
    reader = MessageReader()
    assert [m for at in range(0, len(stream), size) for m in reader.push(stream[at : at + size])] == sent
    whole = BytesIO(stream)
    assert [receive(whole) for _ in sent] == sent
    assert receive(whole) is None


def test_a_message_that_is_cut_off_is_the_end() -> None:
    stream = encode({"a": 1}, b"audio")
    assert all(receive(BytesIO(stream[:size])) is None for size in range(len(stream)))


# --- Speech ---------------------------------------------------------------------------------------------------


def test_a_sentence_is_speech_with_its_words_in_place(worker: Worker) -> None:
    text = "Thanks for calling, you owe $12.50 — well, don't worry."
    pcm, words = worker.speak(text)
    assert [word for word, _, _ in words] == text.split()
    assert all(0 <= begin <= end for _, begin, end in words)
    assert all(before[2] <= after[1] + 1e-6 for before, after in pairwise(words))
    assert 3.0 < len(pcm) / 48000 < 7.0
    assert len(pcm) % 960 == 0
    assert loudness(pcm) > 500
    # Every word sounds, and after the last one it is quiet.
    for word, begin, end in words:
        if word != "—":
            assert loudness(pcm[round(begin * 24000) * 2 : round(end * 24000) * 2]) > 100, word
    assert 0.2 < len(pcm) / 48000 - words[-1][2] < 0.4
    assert not any(pcm[round(words[-1][2] * 24000 + 48) * 2 :])


def test_the_same_text_is_the_same_samples_whatever_was_spoken_before(worker: Worker) -> None:
    first = worker.speak("How can I help you today?")
    worker.speak("Something else.", voice="de", rate=300)
    assert worker.speak("How can I help you today?") == first


def test_voice_rate_and_volume_count_for_each_request(worker: Worker) -> None:
    text = "Where is my refund?"
    plain, _ = worker.speak(text)
    fast, _ = worker.speak(text, rate=350)
    quiet, _ = worker.speak(text, volume=0.3)
    woman, _ = worker.speak(text, voice="en-us+f3")
    again, _ = worker.speak(text)
    assert len(fast) < 0.75 * len(plain)
    assert 0.2 < loudness(quiet) / loudness(plain) < 0.45
    assert woman != plain == again


@pytest.mark.parametrize(
    ("piece", "settings"),
    [
        ("Привет, как дела?", {"voice": "ru"}),
        ("Привет, как дела?", {}),
        ("你好，世界。", {"voice": "cmn"}),
        ("😀", {}),
        ("Great 😀 indeed", {}),
        ("3.14", {}),
        ("x" * 250, {}),
        ("Hello.", {"rate": 80}),
        ("Hello.", {"rate": 450}),
    ],
)
def test_whatever_can_be_written_is_heard(worker: Worker, piece: str, settings: dict[str, object]) -> None:
    pcm, words = worker.speak(piece, **settings)
    assert len(pcm) / 48000 > 0.2
    assert loudness(pcm) > 100
    assert [text for text, _, _ in words] == piece.split()


def test_silence_is_short_silence(worker: Worker) -> None:
    pcm, _ = worker.speak("...")
    assert not any(pcm)
    assert len(pcm) / 48000 < 0.5
    assert len(worker.speak("Hello.", volume=0.0)[0]) / 48000 < 0.5


def test_the_rate_of_the_samples_can_be_chosen(worker: Worker) -> None:
    at_24, words_24 = worker.speak("How can I help you today?")
    at_16, words_16 = worker.speak("How can I help you today?", sample_rate=16000)
    assert len(at_16) / 32000 == pytest.approx(len(at_24) / 48000, abs=0.03)
    assert len(at_16) % 640 == 0
    for before, after in zip(words_24, words_16, strict=True):
        assert after == (before[0], pytest.approx(before[1], abs=0.001), pytest.approx(before[2], abs=0.001))


def test_an_unknown_voice_is_an_error_and_the_next_request_is_served(worker: Worker) -> None:
    worker.input.write(encode({"piece": "x", "voice": "nope", "rate": 175, "volume": 1.0, "sample_rate": 24000}))
    worker.input.flush()
    assert worker.read() == ({"error": "espeak-ng has no voice 'nope'"}, b"")
    assert worker.speak("Hello.")[0]


# --- The process ----------------------------------------------------------------------------------------------


def test_without_the_engine_it_says_so_and_ends() -> None:
    worker = Worker(WITHOUT_PYTTSX3)
    answer = worker.read()
    assert answer is not None
    assert "pyttsx3 cannot be imported" in answer[0]["problem"]
    assert "pip install --force-reinstall pyttsx3 espeakng-loader" in answer[0]["problem"]
    assert worker.end() == 1


def test_voices_are_found_in_a_folder_deeper_than_espeak_can_name(tmp_path: Path) -> None:
    import espeakng_loader

    folder = tmp_path / ("deep" * 30) / ("deeper" * 30)
    folder.mkdir(parents=True)
    (folder / "espeakng_loader").symlink_to(Path(espeakng_loader.__file__).parent)
    worker = Worker(IN_A_DEEP_FOLDER.format(folder=str(folder)))
    worker.greet()
    assert len(worker.speak("Hallo.", voice="de")[0]) > 10000
    assert worker.end() == 0


def test_what_libraries_print_does_not_get_between_the_messages() -> None:
    worker = Worker(CHATTY)
    worker.greet()
    assert worker.speak("Hello.")[0]
    assert worker.errors().startswith("from Python\nfrom C")
    assert worker.end() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
def test_ctrl_c_is_none_of_its_business() -> None:
    worker = Worker()
    worker.greet()
    os.kill(worker.process.pid, signal.SIGINT)
    assert worker.speak("Hello.")[0]
    assert worker.end() == 0


def test_it_ends_quietly_when_nobody_reads_its_answers() -> None:
    worker = Worker()
    worker.greet()
    worker.output.close()
    worker.input.write(encode({"piece": "x " * 100, "voice": "en", "rate": 175, "volume": 1.0, "sample_rate": 24000}))
    worker.input.close()
    assert worker.process.wait(5) == 1
    assert worker.errors() == ""


def test_it_loads_no_more_than_it_needs() -> None:
    code = "import sys, voisnap_mock.audio.espeak_worker; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"numpy", "soxr", "asyncio", "fastapi", "pyttsx3"} & set(eval(loaded))
