"""Tenants: everything of a user hangs on one of them, and they share nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from voisnap_mock.agents.script import DEFAULT_TENANT, AgentScript, AgentsFile, Limits, User
from voisnap_mock.clock import Clock
from voisnap_mock.cloud.manners import Attempts, Remark
from voisnap_mock.cloud.rates import RateCounter
from voisnap_mock.coverage import Coverage
from voisnap_mock.engine.runner import ClockMode, SessionTable
from voisnap_mock.journal import Journal
from voisnap_mock.lint import LINT
from voisnap_mock.recordings.archive import CallArchive


@dataclass(frozen=True, slots=True)
class Agent:
    """A loaded agent.

    Attributes:
        version: from 1; one more for each edit that changed it.
        created_at, updated_at: seconds since 1970.
    """

    script: AgentScript
    version: int
    created_at: float
    updated_at: float


class Tenant:
    """One tenant: its agents, its sessions, its journal, its calls.

    Attributes:
        calls: what can still be heard and read of its calls, also of those that are over.
        file: the agents file it goes by now; sessions under way keep the one they began with.
        agents: by id, in the order of the file.
        own: the agents file it was given for itself; None when it goes by the server's and changes with it.
        rates: how many requests were made here, as far as they are limited.
        attempts: who came when, as far as it tells of clients without patience.
        coverage: which parts of the API were touched here.
        hidden: agents that calls reach though no list shows them, by id.
        on_load: told of each agents file that it goes by.
    """

    def __init__(
        self, tenant_id: str, *, clock: Clock, journal: Journal, sessions: SessionTable, calls: CallArchive
    ) -> None:
        self.id = tenant_id
        self.journal = journal
        self.sessions = sessions
        self.calls = calls
        self.own: AgentsFile | None = None
        self.rates = RateCounter()
        self.attempts = Attempts()
        self.coverage = Coverage()
        journal.follow(self.coverage.take)
        self.hidden: Mapping[str, Agent] = {}
        self.on_load: Callable[[AgentsFile], None] = lambda file: None
        self.file = AgentsFile(agents={})
        self.agents: Mapping[str, Agent] = {}
        self._clock = clock

    def load(self, file: AgentsFile) -> None:
        """Go by another agents file from now on."""
        now = self._clock.wall()
        self.agents = {script.id: self._agent(script, now) for script in file.agents.values()}
        self.file = file
        self.sessions.configure(limits=file.limits, fidelity=file.fidelity)
        self.journal.append("agents.loaded", tenant_id=self.id, source=file.source, agents=list(file.agents))
        self.on_load(file)

    def hide(self, scripts: Mapping[str, AgentScript]) -> None:
        """Have these agents besides those of the file."""
        self.hidden = {name: Agent(script, 1, 0.0, 0.0) for name, script in scripts.items()}

    def find(self, agent_id: str) -> Agent | None:
        """The agent that a call asks for."""
        return self.agents.get(agent_id) or self.hidden.get(agent_id)

    def _agent(self, script: AgentScript, now: float) -> Agent:
        before = self.agents.get(script.id)
        if before is None:
            return Agent(script, 1, now, now)
        if before.script == script:
            # Equal values may come from other lines, which notes in the journal show.
            return replace(before, script=script)
        return Agent(script, before.version + 1, before.created_at, now)


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a new tenant is to have of its own; None is what the server has.

    Attributes:
        file: its agents file.
        recordings: the folder of the prompts that its agents play.
    """

    file: AgentsFile | None = None
    recordings: Path | None = None
    seed: int | None = None
    clock: ClockMode | None = None
    limits: Limits | None = None


@dataclass(frozen=True, slots=True)
class Enrolment:
    """A new tenant, and who may use it. Never log it."""

    tenant: Tenant
    user: User
    api_key: str

    def __repr__(self) -> str:
        return f"Enrolment({self.tenant.id!r}, {self.user.email!r})"


class Tenants:
    """The tenants of a server: `ten_dev`, those that users of the agents file belong to, and those added since."""

    def __init__(self, make: Callable[[str, AgentsFile], Tenant]) -> None:
        self._make = make
        self._tenants: dict[str, Tenant] = {}
        self._named: tuple[str, ...] = ()
        self._added: dict[str, None] = {}

    def load(self, file: AgentsFile) -> None:
        """Give every tenant that follows it the server's agents file; make those that it is the first to name.

        A tenant that it names no more keeps its sessions, and takes no new ones.
        """
        self._named = tuple(dict.fromkeys((DEFAULT_TENANT, *(user.tenant for user in file.auth.users))))
        for tenant_id in self._named:
            if tenant_id not in self._tenants:
                self._tenants[tenant_id] = self._make(tenant_id, file)
        for tenant in self._tenants.values():
            if tenant.own is None:
                tenant.load(file)

    def add(self, tenant: Tenant) -> None:
        """Take in a tenant that no file names."""
        assert tenant.id not in self._tenants, f"there is already a tenant {tenant.id}"
        self._tenants[tenant.id] = tenant
        self._added[tenant.id] = None

    def remove(self, tenant_id: str) -> Tenant:
        """Forget a tenant that was added; ending its sessions is left to the caller.

        Raises:
            KeyError: there is none of this id, or the agents file names it.
        """
        del self._added[tenant_id]
        return self._tenants.pop(tenant_id)

    def get(self, tenant_id: str) -> Tenant | None:
        return self._tenants.get(tenant_id) if tenant_id in self._named or tenant_id in self._added else None

    @property
    def default(self) -> Tenant:
        return self._tenants[DEFAULT_TENANT]

    @property
    def named(self) -> tuple[str, ...]:
        """Those of the agents file, which may be told to anybody."""
        return self._named

    @property
    def ids(self) -> tuple[str, ...]:
        """Those that may be used now."""
        return (*self._named, *self._added)

    def all(self) -> tuple[Tenant, ...]:
        """Also those that only finish their sessions."""
        return tuple(self._tenants.values())


def write_remark(tenant: Tenant, remark: Remark) -> None:
    """Write a remark on a client that has no call into the journal."""
    rule, message = remark
    tenant.journal.append(LINT, tenant_id=tenant.id, rule=rule, message=message)
