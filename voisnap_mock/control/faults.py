"""Faults over HTTP: which are armed and what became of them, and more or fewer of them."""

from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from voisnap_mock.agents.script import AgentsFile
from voisnap_mock.cloud.rest import CONTROL_PREFIX
from voisnap_mock.cloud.tenants import Tenant
from voisnap_mock.control.bodies import file_body, part_of, readable, told
from voisnap_mock.control.scope import Scope, invalid, problems, refused
from voisnap_mock.control.shapes import ArmedFaults, ListOf, ScheduleState
from voisnap_mock.errors import FaultConflict, FaultsError, FaultUnknown
from voisnap_mock.faults.desk import FaultDesk
from voisnap_mock.faults.plan import RuleReport
from voisnap_mock.faults.reading import pushed_events, read_faults
from voisnap_mock.faults.rules import FaultRule, Faults, Schedule
from voisnap_mock.faults.writing import write_rule, write_schedule

_BODY = file_body(
    "One rule, a list of rules, a mapping with `faults` and `schedules`, or a token that replays faults.",
    {"type": ["object", "array", "string"]},
)


def fault_routes(scope: Scope, desk: FaultDesk) -> APIRouter:
    router = APIRouter(prefix=CONTROL_PREFIX, tags=["faults"])
    InTenant = Annotated[Tenant, Depends(scope.tenant)]

    async def read(request: Request, tenant: Tenant) -> Faults:
        try:
            return desk.read(tenant.id, readable(await request.body()), source="body")
        except FaultsError as error:
            raise told("body", error) from None

    def report(tenant: Tenant, rules: tuple[FaultRule, ...] | None = None) -> dict[str, Any]:
        ids = None if rules is None else {rule.id for rule in rules}
        reports = [each for each in desk.report(tenant.id) if ids is None or each.rule.id in ids]
        return {"data": [_report_object(each) for each in reports], "token": desk.token(tenant.id)}

    @router.get("/faults", response_model=ArmedFaults, responses=problems(404))
    async def list_faults(tenant: InTenant) -> Response:
        """Every rule that is armed, or was until it was spent: how often it fired, and what kept it from it."""
        return JSONResponse(report(tenant))

    @router.post(
        "/faults", status_code=201, response_model=ArmedFaults, responses=problems(404, 409), openapi_extra=_BODY
    )
    async def add_faults(request: Request, tenant: InTenant) -> Response:
        """Arm more rules; those without an id get one."""
        faults = await read(request, tenant)
        try:
            return JSONResponse(report(tenant, desk.arm(tenant.id, faults)), 201)
        except FaultConflict as error:
            raise refused(409, str(error)) from None

    @router.put("/faults", response_model=ArmedFaults, responses=problems(404, 409), openapi_extra=_BODY)
    async def replace_faults(request: Request, tenant: InTenant) -> Response:
        """Arm these rules instead of all that are."""
        faults = await read(request, tenant)
        try:
            desk.replace(tenant.id, faults)
        except FaultConflict as error:
            raise refused(409, str(error)) from None
        return JSONResponse(report(tenant))

    @router.delete("/faults", status_code=204, response_class=Response, responses=problems(404))
    async def clear_faults(tenant: InTenant) -> Response:
        """Disarm all rules, also those of the agents file; `reset` brings those back."""
        desk.replace(tenant.id, Faults())
        return Response(status_code=204)

    @router.delete("/faults/{fault_id}", status_code=204, response_class=Response, responses=problems(404))
    async def remove_fault(fault_id: str, tenant: InTenant) -> Response:
        """Disarm one rule."""
        try:
            desk.disarm(tenant.id, fault_id)
        except FaultUnknown as error:
            raise refused(404, str(error)) from None
        return Response(status_code=204)

    @router.get("/schedules", response_model=ListOf[ScheduleState], responses=problems(404))
    async def list_schedules(tenant: InTenant) -> Response:
        """The named schedules, and which of them run."""
        return JSONResponse({"data": [schedule(tenant, each) for each in desk.schedules(tenant.id)]})

    @router.post("/schedules/{name}", response_model=ScheduleState, responses=problems(404))
    async def start_schedule(name: str, tenant: InTenant) -> Response:
        """Start a schedule, anew if it runs."""
        try:
            return JSONResponse(schedule(tenant, desk.start_schedule(tenant.id, name)))
        except FaultUnknown as error:
            raise refused(404, str(error)) from None

    @router.delete("/schedules/{name}", response_model=ScheduleState, responses=problems(404))
    async def stop_schedule(name: str, tenant: InTenant) -> Response:
        """Stop a schedule; the rules that it names are not armed any more."""
        try:
            return JSONResponse(schedule(tenant, desk.stop_schedule(tenant.id, name)))
        except FaultUnknown as error:
            raise refused(404, str(error)) from None

    def schedule(tenant: Tenant, each: Schedule) -> dict[str, Any]:
        running = desk.is_running(tenant.id, each.name)
        return {"name": each.name, "running": running, "schedule": write_schedule(each)}

    return router


def with_faults(file: AgentsFile, body: bytes, faults: object) -> AgentsFile:
    """An agents file that also has the faults of the body's member `faults`; 422 when they are wrong."""
    text, source = part_of(body, "faults", faults)
    try:
        more = read_faults(text, source=source, events=pushed_events(file.agents.values()))
    except FaultsError as error:
        raise told("faults", error) from None
    rules: tuple[FaultRule, ...] = file.sections.get("faults", ())
    taken = {rule.id for rule in rules if rule.id} & {rule.id for rule in more.rules}
    if taken:
        raise invalid("faults", f"the agents file has rules of these ids: {', '.join(sorted(taken))}")
    sections = {
        **file.sections,
        "faults": (*rules, *more.rules),
        "schedules": (*file.sections.get("schedules", ()), *more.schedules),
    }
    if more.seed is not None:
        sections["faults_seed"] = more.seed
    return replace(file, sections=sections)


def _report_object(report: RuleReport) -> dict[str, Any]:
    return {
        "id": report.rule.id,
        "rule": write_rule(report.rule),
        "armed": report.armed,
        "fired": report.fired,
        "nearMiss": report.near_miss,
    }
