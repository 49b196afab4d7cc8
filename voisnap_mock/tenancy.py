"""Making and ending tenants: an isolated world for one user, one test, one worker.

A tenant shares nothing with another one: agents, sessions, journal, limits, clock, seed, users and keys are its own.
What costs time or memory to load (speech, models, known recordings) is the server's and serves them all.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from voisnap_mock.agents.script import DEFAULT_TENANT, AgentScript, AgentsFile, User
from voisnap_mock.audio.stt import Ears
from voisnap_mock.clock import Clock
from voisnap_mock.cloud.tenants import Enrolment as Enrolment
from voisnap_mock.cloud.tenants import Tenant, Tenants
from voisnap_mock.cloud.tenants import Wishes as Wishes
from voisnap_mock.cloud.tokens import TokenAuthority
from voisnap_mock.cloud.wire import TARGETS
from voisnap_mock.config import Settings, check_agents, parse_agents
from voisnap_mock.engine.runner import SessionTable
from voisnap_mock.engine.runner.voicing import Synthesizer
from voisnap_mock.faults.desk import FaultDesk
from voisnap_mock.ids import IdSource
from voisnap_mock.journal import Journal
from voisnap_mock.recordings.archive import CallArchive
from voisnap_mock.recordings.prompts import Recordings
from voisnap_mock.recordings.recorder import Recorder

if TYPE_CHECKING:
    from voisnap_mock.audio.endpointing import Endpointer


_NO_WISHES = Wishes()


class Tenancy:
    """Makes, changes and ends the tenants of one server. Everything is called on the server's loop.

    Attributes:
        on_drop: told of each tenant that is dropped, its calls ended, before what is known of it goes.

    Args:
        file: the server's agents file.
        recordings: its prompts.
        recorder: writes the calls of all tenants to the disk.
    """

    def __init__(
        self,
        file: AgentsFile,
        *,
        settings: Settings,
        clock: Clock,
        tokens: TokenAuthority,
        ears: Ears,
        synthesizer: Synthesizer,
        recordings: Recordings,
        faults: FaultDesk,
        recorder: Recorder | None = None,
    ) -> None:
        self._file = file
        self._settings = settings
        self._clock = clock
        self._tokens = tokens
        self._ears = ears
        self._synthesizer = synthesizer
        self._recordings = recordings
        self._faults = faults
        self._recorder = recorder
        self._ids = IdSource(self.seed_for("tenant"))
        self._first: dict[str, tuple[AgentsFile | None, Recordings]] = {}
        self._prompts: dict[str, Recordings] = {}
        self.tenants = Tenants(self._make)
        self.on_drop: Callable[[Tenant], None] = lambda tenant: None
        self.load(file)

    @property
    def file(self) -> AgentsFile:
        """The server's own."""
        return self._file

    def seed_for(self, name: str) -> int:
        """One seed for each name, so that tenants have ids of their own; the default tenant's is the one given."""
        seed = self._file.seed if self._settings.seed is None else self._settings.seed
        return seed if name == DEFAULT_TENANT else (seed << 32) ^ zlib.crc32(name.encode())

    def load(self, file: AgentsFile) -> None:
        """Let the server go by another agents file, and with it all tenants that have none of their own."""
        self._file = file
        self.tenants.load(file)
        self._listen()

    def read(self, text: str | bytes, *, source: str) -> AgentsFile:
        """Read an agents file for a tenant; `source` is its name for messages.

        Raises:
            AgentsFileError: with every problem that was found, each with line and column.
        """
        return parse_agents(text, source=source)

    def create(self, wishes: Wishes = _NO_WISHES) -> Enrolment:
        """Make a tenant with a user and an API key. The same seed gives the same ids in every tenant made here.

        Raises:
            ConfigError: its agents cannot be served here.
        """
        own = wishes.file
        prompts = self._recordings if wishes.recordings is None else Recordings(wishes.recordings)
        if own is not None:
            self._check(own, prompts)
        if wishes.limits is not None:
            own = replace(own or self._file, limits=wishes.limits)
        tenant_id = self._ids.new("ten_")
        self._prompts[tenant_id] = prompts
        # No tenant is ever asked for what is another's, so their ids may well be the same.
        wishes = replace(wishes, seed=self.seed_for(DEFAULT_TENANT) if wishes.seed is None else wishes.seed)
        tenant = self._make(tenant_id, own or self._file, wishes)
        tenant.own = own
        self._first[tenant_id] = own, prompts
        tenant.load(own or self._file)
        self.tenants.add(tenant)
        if own is not None:
            self._listen()
        user = User(f"dev@{tenant_id.lower().replace('_', '-')}.test", secrets.token_urlsafe(12), tenant=tenant_id)
        api_key = f"vsnp_sb_{secrets.token_hex(12)}"
        self._tokens.enrol(user, api_key)
        return Enrolment(tenant, user, api_key)

    async def drop(self, tenant_id: str) -> Tenant:
        """End the sessions of a tenant that `create` made, and forget all that was its own.

        Raises:
            KeyError: there is none of this id, or the agents file names it.
        """
        tenant = self.tenants.remove(tenant_id)
        self._first.pop(tenant_id, None)
        self._prompts.pop(tenant_id, None)
        self._tokens.expel(tenant_id)
        await tenant.sessions.close()
        self.on_drop(tenant)
        self._faults.close(tenant_id)
        tenant.journal.close()
        if tenant.own is not None:
            self._listen()
        return tenant

    def give(self, tenant: Tenant, file: AgentsFile, recordings: Path | None = None) -> None:
        """Let a tenant go by an agents file of its own from now on; sessions under way finish on the one before.

        Raises:
            ConfigError: its agents cannot be served here.
        """
        prompts = Recordings(recordings) if recordings is not None else self._prompts.get(tenant.id, self._recordings)
        self._check(file, prompts)
        tenant.own = file
        tenant.load(file)
        tenant.sessions.prompts = self._prompts[tenant.id] = prompts
        self._listen()

    def reset(self, tenant: Tenant) -> None:
        """Back to the agents file and the prompts that the tenant began with, and its faults; rates count anew."""
        tenant.own, prompts = self._first.get(tenant.id, (None, self._recordings))
        tenant.sessions.prompts = self._prompts[tenant.id] = prompts
        tenant.load(tenant.own or self._file)
        self._faults.reset(tenant.id)
        tenant.rates.clear()
        self._listen()

    def _check(self, file: AgentsFile, prompts: Recordings) -> None:
        check_agents(file, prompts)
        self._ears.check(file.agents.values())

    def _listen(self) -> None:
        """The words of all agents are listened for."""
        self._ears.serve([script for tenant in self.tenants.all() for script in tenant.file.agents.values()])

    def _make(self, tenant_id: str, file: AgentsFile, wishes: Wishes = _NO_WISHES) -> Tenant:
        seed = self.seed_for(tenant_id) if wishes.seed is None else wishes.seed
        journal = Journal(self._clock, file.limits.journal_entries, file.limits.journal_bytes)
        mode = wishes.clock or self._settings.clock
        calls = CallArchive(journal, recorder=self._recorder)
        sessions = SessionTable(
            clock=self._clock,
            ids=IdSource(seed),
            journal=journal,
            synthesizer=self._synthesizer,
            prompts=self._prompts.get(tenant_id, self._recordings),
            hearing_for=self._ears.hearing_for,
            endpointer_for=_endpointer_for(file),
            limits=file.limits,
            fidelity=file.fidelity,
            mode=mode,
            idle_grace=self._settings.idle_grace,
            tap_for=calls.open,
            targets=TARGETS,
        )
        tenant = Tenant(tenant_id, clock=self._clock, journal=journal, sessions=sessions, calls=calls)
        self._faults.open(tenant, seed)
        return tenant


def _endpointer_for(file: AgentsFile) -> Callable[[AgentScript], Endpointer]:
    def make(script: AgentScript) -> Endpointer:
        from voisnap_mock.audio.endpointing import Endpointer

        return Endpointer(end_of_turn=script.timing.end_of_turn, max_utterance=file.limits.max_utterance)

    return make
