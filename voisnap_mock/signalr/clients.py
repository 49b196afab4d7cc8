"""Clients and groups: sending to many connections of one hub, written once for each protocol."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol

from voisnap_mock.signalr.messages import Invocation


class Member(Protocol):
    """A connection that can be sent to."""

    @property
    def connection_id(self) -> str: ...

    def send_to_many(self, invocation: Invocation, written: dict[str, bytes]) -> None:
        """Queue `invocation`; `written` holds its bytes by the names of protocols and is shared by all who get it."""
        ...


class Audience:
    """Some clients of a hub; who they are is looked up at each send."""

    def __init__(self, members: Callable[[], Iterable[Member]]) -> None:
        self._members = members

    def send(self, target: str, *arguments: object) -> None:
        """Call a method of each of these clients, without waiting.

        Raises:
            LocalProtocolError: an argument cannot be serialised.
        """
        invocation = Invocation(target, arguments)
        written: dict[str, bytes] = {}
        for member in list(self._members()):
            member.send_to_many(invocation, written)


class HubClients:
    """The connections of one hub, and the groups they have joined."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._groups: dict[str, dict[str, Member]] = {}
        self._joined: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def all(self) -> Audience:
        return Audience(self._members.values)

    def all_except(self, connection_ids: Collection[str]) -> Audience:
        return Audience(lambda: (m for i, m in self._members.items() if i not in connection_ids))

    def client(self, connection_id: str) -> Audience:
        return self.clients((connection_id,))

    def clients(self, connection_ids: Collection[str]) -> Audience:
        return Audience(lambda: (self._members[i] for i in connection_ids if i in self._members))

    def group(self, name: str, *, exclude: Collection[str] = ()) -> Audience:
        """Those who joined the group `name`, which need not exist."""
        return Audience(lambda: (m for i, m in self._groups.get(name, {}).items() if i not in exclude))

    def join(self, connection_id: str, group: str) -> None:
        """Add a connection to a group; nothing happens when the connection is over."""
        member = self._members.get(connection_id)
        if member is not None:
            self._groups.setdefault(group, {})[connection_id] = member
            self._joined.setdefault(connection_id, set()).add(group)

    def leave(self, connection_id: str, group: str) -> None:
        self._joined.get(connection_id, set()).discard(group)
        members = self._groups.get(group)
        if members is not None:
            members.pop(connection_id, None)
            if not members:
                del self._groups[group]

    def add(self, member: Member) -> None:
        """The endpoint's duty, when a connection opens."""
        self._members[member.connection_id] = member

    def remove(self, connection_id: str) -> None:
        """The endpoint's duty, when a connection ends."""
        self._members.pop(connection_id, None)
        for group in list(self._joined.pop(connection_id, ())):
            self.leave(connection_id, group)
