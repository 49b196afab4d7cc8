"""Rules as the words that `faults.reading` reads: for lists of faults, and for tokens."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import Any, assert_never

from voisnap_mock.faults.rules import (
    CODES,
    Action,
    Answer,
    Drop,
    Fail,
    FaultRule,
    Faults,
    Frames,
    Gap,
    Impair,
    Replace,
    Schedule,
    Silence,
    Slow,
)


def write_rule(rule: FaultRule) -> dict[str, Any]:
    """A rule as decoded JSON; what has its default is left out."""
    written: dict[str, Any] = {"id": rule.id} if rule.id else {}
    written["at"] = rule.at[0] if len(rule.at) == 1 else list(rule.at)
    when = {name: _duration(value) if name.endswith("_after") else value for name, value in _changed(rule.when).items()}
    if when:
        written["when"] = when
    written["do"] = write_action(rule)
    written |= {name: value for name, value in _changed(rule).items() if name in ("times", "skip", "every", "rate")}
    if rule.lasts is not None:
        written["for"] = _duration(rule.lasts)
    if rule.per != "tenant":
        written["per"] = rule.per
    return written


def write_action(rule: FaultRule) -> dict[str, Any]:
    """What it does, as decoded JSON: `{"error": "STT_PROVIDER_TIMEOUT", "after": "3s"}`."""
    return _do(rule.do) | ({"after": _duration(rule.after)} if rule.after else {})


def write_firing(rule: FaultRule, point: str) -> dict[str, Any]:
    """What the journal keeps of a firing: which fault, where, and what was done."""
    return {"fault": rule.id, "point": point, "do": write_action(rule)}


def write_schedule(schedule: Schedule) -> Any:
    """A schedule as decoded JSON: a list of phases, or a mapping with `loop`."""
    phases = [{"for": _duration(phase.seconds), "use": list(phase.use)} for phase in schedule.phases]
    return {"phases": phases, "loop": True} if schedule.loop else phases


def write_faults(faults: Faults) -> dict[str, Any]:
    """All of it as decoded JSON."""
    written: dict[str, Any] = {"faults": [write_rule(rule) for rule in faults.rules]}
    if faults.schedules:
        written["schedules"] = {schedule.name: write_schedule(schedule) for schedule in faults.schedules}
    return written


def _do(action: Action) -> dict[str, Any]:
    match action:
        case Fail(code=code):
            free = {} if code in CODES else {"undocumented": True}
            return {"error": code} | {k: v for k, v in _changed(action).items() if k != "code"} | free
        case Answer(status=status, retry_after=retry_after):
            return {"http": status} | ({} if retry_after is None else {"retry_after": _duration(retry_after)})
        case Drop(how=how):
            return {"drop": how.value}
        case Impair():
            return {"impair": {name: _impairment(name, value) for name, value in _changed(action).items()}}
        case Frames(how=framing):
            return {"frames": framing.value}
        case Slow(seconds=seconds):
            return {"slow": _duration(seconds)}
        case Silence():
            return {"silence": True}
        case Replace(value=value):
            return {"replace": value}
        case _:
            assert_never(action)


def _impairment(name: str, value: Any) -> Any:
    if isinstance(value, Gap):
        return {"every": _duration(value.every), "for": _duration(value.length)}
    return _duration(value) if name == "jitter" else value


def _changed(value: Any) -> dict[str, Any]:
    """The fields that do not have their default."""
    return {
        field.name: found
        for field in fields(value)
        if (found := getattr(value, field.name)) != field.default or field.default is MISSING
    }


def _duration(seconds: float) -> str:
    """`0.3` -> `300ms`, and read back to the same number."""
    if seconds and seconds < 1:
        return f"{seconds * 1000:.6f}".rstrip("0").rstrip(".") + "ms"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"
