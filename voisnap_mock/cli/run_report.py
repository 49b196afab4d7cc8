"""What became of a run of `exec`, for machines: JSON, JUnit for those who show test results, and its coverage."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from voisnap_mock.cli.covering import write_coverage
from voisnap_mock.coverage import Coverage, added_up
from voisnap_mock.faults.plan import RuleReport
from voisnap_mock.faults.writing import write_rule
from voisnap_mock.lint import LintNote
from voisnap_mock.testing.checks import never_fired

# Characters that no XML 1.0 document may have, not even escaped.
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Format(StrEnum):
    """How a report is written."""

    JUNIT = "junit"
    JSON = "json"
    COVERAGE = "coverage"


DEFAULT_NAMES: Mapping[Format, str] = {
    Format.JUNIT: "voisnap-mock.xml",
    Format.JSON: "voisnap-mock.json",
    Format.COVERAGE: "voisnap-coverage.json",
}


@dataclass(frozen=True, slots=True)
class TenantReport:
    """What became of a tenant.

    Attributes:
        calls: as the control API shows them.
        problems: what went wrong in calls, and in the mock itself, in sentences.
    """

    id: str
    calls: Sequence[Mapping[str, Any]]
    faults: Sequence[RuleReport]
    problems: Sequence[str]
    lint: Sequence[LintNote]
    coverage: Coverage


@dataclass(frozen=True, slots=True)
class RunReport:
    """What became of a run: its command, the exit code of that, and the tenants of the server."""

    command: Sequence[str]
    exit_code: int
    tenants: Sequence[TenantReport]

    @property
    def failures(self) -> list[str]:
        """All that a strict run fails for, in sentences."""
        unfired = (never_fired(fault) for tenant in self.tenants for fault in tenant.faults)
        return [problem for tenant in self.tenants for problem in tenant.problems] + [*filter(None, unfired)]

    @property
    def coverage(self) -> Coverage:
        """Of all tenants together."""
        return added_up(tenant.coverage for tenant in self.tenants)

    def as_object(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "command": list(self.command),
            "exitCode": self.exit_code,
            "problems": self.failures,
            "calls": [dict(call) for tenant in self.tenants for call in tenant.calls],
            "faults": [
                {
                    "tenantId": tenant.id,
                    "id": fault.rule.id,
                    "rule": write_rule(fault.rule),
                    "fired": fault.fired,
                    "nearMiss": fault.near_miss,
                }
                for tenant in self.tenants
                for fault in tenant.faults
            ],
            "lint": [note.as_object() for tenant in self.tenants for note in tenant.lint],
            "coverage": self.coverage.report(),
        }

    def as_junit(self) -> str:
        """One test case for each fault and call, and one for all else that went wrong; remarks are its output."""
        suite = ET.Element("testsuite", name="voisnap-mock")
        failures = 0
        for tenant in self.tenants:
            left = list(tenant.problems)
            named = [(f"fault {fault.rule.id}", [never_fired(fault)]) for fault in tenant.faults]
            for call in tenant.calls:
                of_call = [problem for problem in left if problem.startswith(f"call {call['id']}: ")]
                named.append((f"call {call['id']} with {call['agentId']}", list(of_call)))
            told = {problem for _, problems in named for problem in problems}
            named.append(("everything else", [problem for problem in left if problem not in told]))
            for name, problems in named:
                case = ET.SubElement(suite, "testcase", classname=f"voisnap-mock.{tenant.id}", name=name)
                wrong = "\n".join(problem for problem in problems if problem)
                if wrong:
                    failures += 1
                    ET.SubElement(case, "failure", message=wrong.partition("\n")[0]).text = wrong
        remarks = [note for tenant in self.tenants for note in tenant.lint]
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(failures))
        properties = ET.Element("properties")
        ET.SubElement(properties, "property", name="voisnap.coverage", value=f"{self.coverage.percent:g}")
        suite.insert(0, properties)
        if remarks:
            ET.SubElement(suite, "system-out").text = "\n".join(f"{note.rule}: {note.message}" for note in remarks)
        ET.indent(suite)
        # ElementTree writes what callers said as it is, and no reader would take it.
        return (
            _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", ET.tostring(suite, encoding="unicode", xml_declaration=True))
            + "\n"
        )


def write_report(format_: Format, path: Path, report: RunReport) -> None:
    """Raises OSError or ConfigError if it cannot be written."""
    match format_:
        case Format.COVERAGE:
            write_coverage(path, report.coverage)
            return
        case Format.JSON:
            text = json.dumps(report.as_object(), indent=1, ensure_ascii=False) + "\n"
        case Format.JUNIT:
            text = report.as_junit()
    path.write_text(text, encoding="utf-8")
