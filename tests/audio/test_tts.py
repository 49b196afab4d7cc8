import asyncio
import gc
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from voisnap_mock.agents.script import Voice
from voisnap_mock.audio.frames import seconds
from voisnap_mock.audio.tones import speak_tones
from voisnap_mock.audio.tts import LocalSynthesizer, say
from voisnap_mock.engine.events import Speech, Word
from voisnap_mock.errors import SpeechError

GREETING = "Hello! Thanks for calling. How can I help you today?"
together = pytest.mark.asyncio(loop_scope="module")
signals_only = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")


def loudness(pcm: bytes) -> float:
    return float(np.sqrt(np.square(np.frombuffer(pcm, "<i2").astype(float)).mean()))


async def whole(synthesizer: LocalSynthesizer, text: str, voice: Voice | None = None) -> Speech:
    """All parts as one, after checking each."""
    pcm, words = b"", []
    async for part in synthesizer.speak(text, voice or Voice()):
        length = seconds(part.pcm, 24000)
        assert len(part.pcm) % 960 == 0
        assert all(0 <= word.begin <= word.end <= length + 1e-6 for word in part.words)
        at = seconds(pcm, 24000)
        words += [Word(word.text, at + word.begin, at + word.end) for word in part.words]
        pcm += part.pcm
    return Speech(pcm, tuple(words))


def text_of(speech: Speech) -> str:
    return " ".join(word.text for word in speech.words)


def tones(text: str) -> bytes:
    return speak_tones(text.split(), rate=175, volume=1.0).pcm


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def synthesizer() -> AsyncIterator[LocalSynthesizer]:
    """One for all tests that do it no harm."""
    synthesizer = LocalSynthesizer()
    await synthesizer.start()
    yield synthesizer
    await synthesizer.close()


@pytest.fixture
async def own_synthesizer() -> AsyncIterator[LocalSynthesizer]:
    synthesizer = LocalSynthesizer()
    await synthesizer.start()
    yield synthesizer
    await synthesizer.close()
    del synthesizer
    gc.collect()


Stand = Callable[..., LocalSynthesizer]


@pytest.fixture
async def with_worker() -> AsyncIterator[Stand]:
    """A synthesizer whose worker is the given Python code."""
    made = []

    def make(code: str, **settings: float) -> LocalSynthesizer:
        made.append(LocalSynthesizer(command=[sys.executable, "-P", "-c", code], **settings))
        return made[-1]

    yield make
    for synthesizer in made:
        await synthesizer.close()


REAL = "import os, signal, sys; from voisnap_mock.audio import espeak_worker as w; speak = w.Espeak.speak\n{}\nw.main()"
DIES_OF_POISON = REAL.format(
    "w.Espeak.speak = lambda s, piece, **k: os.kill(os.getpid(), 9) if 'poison' in piece else speak(s, piece, **k)"
)
DIES_IN_MID_SENTENCE = REAL.format(
    """
def dies_after_its_first_part(self, piece, *, on_part, **settings):
    def die(words, pcm, *, is_last):
        on_part(words, pcm, is_last=False)
        os._exit(9)
    return speak(self, piece, on_part=die if 'Thanks' in piece else on_part, **settings)
w.Espeak.speak = dies_after_its_first_part"""
)
DIES_AT_START = "import sys; sys.exit('no luck today')"
SAYS_NOTHING = "import time; time.sleep(60)"
WITHOUT_PYTTSX3 = (
    "import sys; sys.modules['pyttsx3'] = None; from voisnap_mock.audio import espeak_worker as w; w.main()"
)


# --- Speaking -------------------------------------------------------------------------------------------------


@together
async def test_a_reply_is_real_speech_with_every_word_in_its_place(synthesizer: LocalSynthesizer) -> None:
    speech = await whole(synthesizer, GREETING)
    assert text_of(speech) == GREETING
    assert 3.0 < seconds(speech.pcm, 24000) < 5.0
    assert loudness(speech.pcm) > 500
    begins = [word.begin for word in speech.words]
    assert begins == sorted(begins)
    assert speech.pcm != tones(GREETING)
    assert synthesizer.status().startswith("espeak-ng 1.")
    assert synthesizer.status().endswith("via pyttsx3")


@together
async def test_it_comes_in_parts_the_first_one_short(synthesizer: LocalSynthesizer) -> None:
    text = "The quick brown fox jumps over the lazy dog and then runs away as fast as it can."
    lengths = [seconds(part.pcm, 24000) async for part in synthesizer.speak(text, Voice())]
    assert lengths[0] < 1.0 < sum(lengths)


@together
@pytest.mark.parametrize(
    "text",
    ["Привет, мир!", "😀", "<speak>Hi <break time='1s'/> you</speak>", "nul\0 half \ud83d", "1,234.56", "a" * 700],
)
async def test_odd_text_is_spoken(synthesizer: LocalSynthesizer, text: str) -> None:
    assert loudness((await whole(synthesizer, text)).pcm) > 100


@together
async def test_markup_is_not_read_aloud(synthesizer: LocalSynthesizer) -> None:
    marked = await whole(synthesizer, "<speak>Hi <break time='1s'/><b>you</b></speak>")
    assert marked == await whole(synthesizer, "Hi you")


@together
@pytest.mark.parametrize("text", ["", "  \n", "\0", "<b></b>"])
async def test_nothing_to_say_is_one_empty_part(synthesizer: LocalSynthesizer, text: str) -> None:
    assert [part async for part in synthesizer.speak(text, Voice())] == [Speech(b"")]


@together
async def test_a_long_text_is_spoken_to_its_end(synthesizer: LocalSynthesizer) -> None:
    text = " ".join(f"This is sentence number {number}, {'which goes on and on, ' * 9}." for number in range(25))[:5000]
    speech = await whole(synthesizer, text)
    assert text_of(speech) == text.strip()
    assert seconds(speech.pcm, 24000) > 250


@together
async def test_eight_callers_get_their_own_words_voice_and_rate_in_turn(synthesizer: LocalSynthesizer) -> None:
    texts = [" ".join(f"Caller {caller} hears sentence {number}." for number in range(6)) for caller in range(8)]
    voices = [Voice(name="en-us+f3" if caller % 2 else "en", rate=100 + 40 * caller) for caller in range(8)]
    finished: list[int] = []

    async def hear(caller: int) -> Speech:
        speech = await whole(synthesizer, texts[caller], voices[caller])
        finished.append(caller)
        return speech

    heard = await asyncio.gather(*(hear(caller) for caller in range(8)))
    assert [text_of(speech) for speech in heard] == texts
    lengths = [seconds(speech.pcm, 24000) for speech in heard]
    assert lengths == sorted(lengths, reverse=True)
    assert len({speech.pcm[:9600] for speech in heard}) == 8
    assert finished == list(range(8))


@together
async def test_a_caller_who_leaves_holds_nobody_up(synthesizer: LocalSynthesizer) -> None:
    speech = synthesizer.speak("One sentence. Another sentence. " * 50, Voice())
    async for _ in speech:
        break
    await speech.aclose()  # type: ignore[attr-defined]
    assert text_of(await whole(synthesizer, "Next, please.")) == "Next, please."


# --- Voices ---------------------------------------------------------------------------------------------------


@together
async def test_names_people_write_are_understood(synthesizer: LocalSynthesizer) -> None:
    british = await whole(synthesizer, "Hello.", Voice(name="en-GB"))
    assert british == await whole(synthesizer, "Hello.", Voice(name="en"))
    assert british != await whole(synthesizer, "Hello.", Voice(name="en-us"))


@together
async def test_an_unknown_voice_is_told_once_and_the_call_goes_on(
    synthesizer: LocalSynthesizer, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        assert await whole(synthesizer, "Hello.", Voice(name="en-uss")) == await whole(synthesizer, "Hello.")
    assert caplog.text.count("there is no voice 'en-uss': similar ones are en-us") == 1


@together
async def test_settings_out_of_range_are_brought_into_it(synthesizer: LocalSynthesizer) -> None:
    fastest = await whole(synthesizer, "Hello there.", Voice(rate=9999, volume=7.0))
    assert fastest == await whole(synthesizer, "Hello there.", Voice(rate=450, volume=1.0))
    slowest = await whole(synthesizer, "Hello there.", Voice(rate=-5, volume=float("nan")))
    assert slowest == await whole(synthesizer, "Hello there.", Voice(rate=80))


async def test_the_tone_voice_needs_no_worker(with_worker: Stand) -> None:
    synthesizer = with_worker(DIES_AT_START)
    assert (await whole(synthesizer, "One two. Three!", Voice(engine="tone"))).pcm == tones("One two.") + tones(
        "Three!"
    )
    assert synthesizer.worker_pid is None


@together
async def test_the_voices_can_be_listed(synthesizer: LocalSynthesizer) -> None:
    assert {"en-us", "de", "cmn"} <= set(synthesizer.voices())
    assert "f3" in synthesizer.variants()


# --- The cache ------------------------------------------------------------------------------------------------


@together
async def test_a_sentence_is_made_once_for_all_who_say_it(synthesizer: LocalSynthesizer) -> None:
    first, second = await asyncio.gather(whole(synthesizer, GREETING), whole(synthesizer, GREETING))
    assert first == second
    parts = [part async for part in synthesizer.speak("Hello! Somebody else.", Voice())]
    again = [part async for part in synthesizer.speak("Hello!", Voice())]
    assert again[0] is parts[0]


@signals_only
async def test_what_was_said_before_is_said_without_the_worker(own_synthesizer: LocalSynthesizer) -> None:
    first = await whole(own_synthesizer, GREETING)
    assert own_synthesizer.worker_pid is not None
    os.kill(own_synthesizer.worker_pid, signal.SIGSTOP)
    async with asyncio.timeout(0.5):
        assert await whole(own_synthesizer, GREETING) == first


async def test_the_cache_keeps_within_its_bound() -> None:
    synthesizer = LocalSynthesizer(cache_bytes=200_000)
    kept = [part async for part in synthesizer.speak("The first one.", Voice())]
    for number in range(8):
        await whole(synthesizer, f"Number {number}.")
        assert [part async for part in synthesizer.speak("Used all the time.", Voice())]
        assert synthesizer.cached_bytes <= 200_000
    remade = [part async for part in synthesizer.speak("The first one.", Voice())]
    assert remade == kept
    assert remade[0] is not kept[0]
    await synthesizer.close()


# --- Failures -------------------------------------------------------------------------------------------------


@signals_only
async def test_a_worker_killed_with_eight_callers_waiting_is_replaced_and_all_are_served(
    own_synthesizer: LocalSynthesizer, caplog: pytest.LogCaptureFixture
) -> None:
    await own_synthesizer.settled()
    texts = [f"Good morning, you are caller number {number}." for number in range(8)]
    callers = [asyncio.create_task(whole(own_synthesizer, text)) for text in texts]
    await asyncio.sleep(0)
    killed = own_synthesizer.worker_pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    heard = [await caller for caller in callers]
    assert [text_of(speech) for speech in heard] == texts
    assert all(speech.pcm != tones(text) for speech, text in zip(heard, texts, strict=True))
    assert own_synthesizer.worker_pid not in (None, killed)
    assert "exit status -9); a new one is started" in caplog.text


@signals_only
async def test_a_worker_killed_between_two_replies_does_not_matter(own_synthesizer: LocalSynthesizer) -> None:
    await whole(own_synthesizer, "Before.")
    assert own_synthesizer.worker_pid is not None
    os.kill(own_synthesizer.worker_pid, signal.SIGKILL)
    speech = await whole(own_synthesizer, "And after that.")
    assert speech.pcm != tones("And after that.")


@signals_only
async def test_a_frozen_worker_is_replaced_after_a_second(
    own_synthesizer: LocalSynthesizer, caplog: pytest.LogCaptureFixture
) -> None:
    await own_synthesizer.settled()
    frozen = own_synthesizer.worker_pid
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    began = asyncio.get_running_loop().time()
    speech = await whole(own_synthesizer, "Are you still there?")
    assert 1.0 <= asyncio.get_running_loop().time() - began < 4.0
    assert speech.pcm != tones("Are you still there?")
    assert f"(process {frozen}) gives no answer and is killed" in caplog.text


@signals_only
async def test_text_the_worker_dies_of_becomes_tones_and_its_neighbours_speech(
    with_worker: Stand, caplog: pytest.LogCaptureFixture
) -> None:
    synthesizer = with_worker(DIES_OF_POISON)
    before, poison, after = await asyncio.gather(
        *(whole(synthesizer, text) for text in ("Just before.", "Here is poison.", "Right after."))
    )
    assert poison.pcm == tones("Here is poison.")
    assert before.pcm != tones("Just before.")
    assert after.pcm != tones("Right after.")
    assert "'Here is poison.' is spoken in tones: the speech worker failed twice" in caplog.text


@signals_only
async def test_a_sentence_begun_before_the_worker_died_goes_on_in_tones(with_worker: Stand) -> None:
    synthesizer = with_worker(DIES_IN_MID_SENTENCE)
    speech = await whole(synthesizer, "Thanks for calling.")
    assert text_of(speech) == "Thanks for calling."
    assert speech.pcm.endswith(tones("calling.")[-960 * 10 :])


@pytest.mark.parametrize(
    ("code", "because"),
    [
        (WITHOUT_PYTTSX3, "tones, because pyttsx3 cannot be imported"),
        (DIES_AT_START, "tones, because the speech worker does not start (exit status 1: no luck today)"),
        (SAYS_NOTHING, "tones, because the speech worker does not start (exit status -9)"),
    ],
)
async def test_without_espeak_replies_are_tones_and_the_status_says_why(
    with_worker: Stand, caplog: pytest.LogCaptureFixture, code: str, because: str
) -> None:
    synthesizer = with_worker(code, start_within=0.1 if code is SAYS_NOTHING else 15.0)
    await synthesizer.start()
    early = asyncio.create_task(whole(synthesizer, GREETING))
    await synthesizer.settled()
    assert synthesizer.status().startswith(because)
    expected = tones("Hello!") + tones("Thanks for calling.") + tones("How can I help you today?")
    assert (await early).pcm == expected
    assert text_of(await whole(synthesizer, GREETING)) == GREETING
    assert "is spoken in tones" in caplog.text


async def test_a_worker_that_cannot_be_run_means_tones(tmp_path: Path) -> None:
    synthesizer = LocalSynthesizer(command=[str(tmp_path / "nothing")])
    assert (await whole(synthesizer, "Hello!")).pcm == tones("Hello!")
    assert "the speech worker cannot be started with" in synthesizer.status()
    await synthesizer.close()


# --- Its life -------------------------------------------------------------------------------------------------


async def test_starting_returns_at_once_and_closing_ends_what_was_started() -> None:
    synthesizer = LocalSynthesizer()
    await synthesizer.start()
    assert "starting" in synthesizer.status()
    await synthesizer.close()
    await synthesizer.close()
    assert synthesizer.worker_pid is None
    assert (await whole(synthesizer, "Too late.")).pcm == tones("Too late.")


@signals_only
async def test_closing_ends_a_frozen_worker_and_lets_its_callers_go() -> None:
    synthesizer = LocalSynthesizer()
    await synthesizer.settled()
    pid = synthesizer.worker_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    caller = asyncio.create_task(whole(synthesizer, "Hello!"))
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        await synthesizer.close()
        assert (await caller).pcm == tones("Hello!")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_works_in_a_loop_of_another_thread(loop: str) -> None:
    if loop == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed")
    heard: list[Speech] = []

    async def talk() -> None:
        synthesizer = LocalSynthesizer()
        heard.append(await whole(synthesizer, "Hello!"))
        await synthesizer.close()

    def run() -> None:
        if loop == "uvloop":
            import uvloop

            uvloop.run(talk())
        else:
            asyncio.run(talk())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert text_of(heard[0]) == "Hello!"
    assert heard[0].pcm != tones("Hello!")


SCRIPT = """
import asyncio
from voisnap_mock.agents.script import Voice
from voisnap_mock.audio.tts import LocalSynthesizer

async def main():
    synthesizer = LocalSynthesizer()
    await synthesizer.settled()
    async for part in synthesizer.speak("Hello!", Voice()):
        print("spoken", synthesizer.worker_pid, flush=True)
    {then}

asyncio.run(main())
"""


def test_a_script_without_a_main_guard_runs_once_and_ends_clean(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(then="await synthesizer.close()"))
    (tmp_path / "json.py").write_text("raise SystemExit('a module that happens to lie there')")
    run = [sys.executable, "-X", "dev", "-W", "error", "-P", str(script)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.stdout.count("spoken") == 1
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform != "linux", reason="process descriptors are of Linux")
def test_a_killed_server_leaves_no_worker_behind(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(then="await asyncio.sleep(60)"))
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        worker = int(server.stdout.readline().split()[1])
        children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        ends = [os.pidfd_open(pid) for pid in (worker, *map(int, children))]
        server.kill()
    # A process descriptor can be read once the process has ended.
    for end in ends:
        assert select.select([end], [], [], 5)[0]
        os.close(end)


# --- For callers ----------------------------------------------------------------------------------------------


def test_say_gives_caller_audio() -> None:
    pcm = say("I want a refund, please. Quickly!")
    assert 2.0 < seconds(pcm, 16000) < 4.0
    assert len(pcm) % 640 == 0
    assert loudness(pcm) > 500
    slow = say("I want a refund, please. Quickly!", Voice(name="en-gb", rate=120), rate=8000)
    assert seconds(slow, 8000) > 1.2 * seconds(pcm, 16000)


async def test_say_works_inside_a_running_loop() -> None:
    assert say("Hello.")


@pytest.mark.parametrize(
    ("text", "voice", "says"),
    [
        ("", "en-us", "there is nothing to say in ''"),
        ("Hello.", "klingonn", "there is no voice 'klingonn'"),
    ],
)
def test_say_refuses_what_it_cannot_say(text: str, voice: str, says: str) -> None:
    with pytest.raises(SpeechError) as caught:
        say(text, voice)
    assert says in str(caught.value)
