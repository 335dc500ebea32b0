"""``escalon release``."""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Mapping
from typing import TextIO

import msgspec

from cloud.channel import Channel
from cloud.director import new_ticket
from cloud.releasing import wire_form
from cloud.rollout.commands import halt, pause, promote, resume, roll_back
from cloud.rollout.decision import Decision
from cloud.rollout.record import RolloutRecord
from cloud.version import Version
from escalon.output import as_json
from escalon.release.scope import Scope
from escalon.release.status import ChannelStatus, exit_code, in_words, status
from escalon.release.versions import compared, differences, facts, listed, moment, shown
from shared.durable import write_durably
from shared.errors import EscalonError

PLAIN = {"pause": pause, "resume": resume, "halt": halt, "rollback": roll_back}


def run_release(
    arguments: argparse.Namespace, environment: Mapping[str, str], output: TextIO
) -> int:
    """Runs ``escalon release``.

    Args:
        arguments: of the command line.
        environment: the process's.
        output: what is printed goes there.

    Returns:
        The exit code.

    Raises:
        UsageError: the command line does not say enough.
        EscalonError: it is refused, or fails.
    """
    scope = Scope.of(arguments, environment)
    match arguments.release_command:
        case "list":
            text = _list(scope, arguments.json)
        case "show":
            version = scope.version(arguments.version)
            text = as_json(facts(version)) if arguments.json else shown(version)
        case "files":
            text = _files(scope, arguments)
        case "diff":
            text = _diff(scope, arguments)
        case "status":
            return _status(scope, arguments, output)
        case _:
            text = _act(scope, arguments)
    output.write(text + "\n")
    return 0


def _files(scope: Scope, arguments: argparse.Namespace) -> str:
    """Writes the files of a version as they travel."""
    written = []
    for artefact in scope.version(arguments.version).release.artefacts:
        path = arguments.to / artefact.sha256
        write_durably(path, wire_form(artefact, scope.registry.blobs))
        written.append({"file": str(path), "bytes": artefact.wire_total, "url": artefact.url})
    if arguments.json:
        return as_json(written)
    lines = [f"{each['file']}   {each['bytes']} bytes   {each['url']}" for each in written]
    return "\n".join(lines).rstrip()


def statuses(scope: Scope) -> list[ChannelStatus]:
    """Returns how the channels that are meant stand now.

    Raises:
        StorageError: a file cannot be read.
    """
    snapshot = scope.snapshot()
    signs, found = scope.signs(), []
    for name, channel in scope.channels.items():
        newest = scope.registry.newest(name)
        found.append(
            status(
                name,
                channel.read(),
                channel.plan,
                snapshot.nodes,
                published=newest.manifest.release.version if newest else "",
                cloud=signs,
                now_s=time.time(),
            )
        )
    return found


def _list(scope: Scope, wants_json: bool) -> str:
    versions = [each for name in scope.channels for each in scope.registry.versions(name)]
    remarks = _remarks(scope)
    if wants_json:
        return as_json(
            [facts(each) | {"rollout": remarks.get(each.qualified, "")} for each in versions]
        )
    return listed(versions, remarks) if versions else "no versions yet"


def _remarks(scope: Scope) -> dict[str, str]:
    """Returns how the latest rollout of each version stands or ended, and which one stands."""
    remarks: dict[str, str] = {}
    for name, channel in scope.channels.items():
        history = list(channel.history())
        remarks |= {f"{name}/{each.version}": each.phase.value for each in reversed(history)}
        standing = channel.standing()
        if standing and not (history and history[0].version == standing):
            remarks[f"{name}/{standing}"] = "stands"
    return remarks


def _diff(scope: Scope, arguments: argparse.Namespace) -> str:
    one, other = map(scope.version, arguments.versions)
    if arguments.json:
        return as_json(differences(one, other))
    return compared(one, other)


def _status(scope: Scope, arguments: argparse.Namespace, output: TextIO) -> int:
    if arguments.watch:
        from escalon.release.watch import watch  # noqa: PLC0415 - it may need rich

        return watch(lambda: statuses(scope), output, as_json=arguments.json)
    found = statuses(scope)
    text = as_json(found) if arguments.json else "\n\n".join(map(in_words, found))
    output.write(text + "\n")
    return exit_code(found)


def _act(scope: Scope, arguments: argparse.Namespace) -> str:
    command = arguments.release_command
    if command == "publish":
        return _publish(scope, arguments)
    if command == "offer":
        channel, name = scope.named(arguments.version)
        with channel.lock.claimed():
            decision = channel.offer(name, scope.fleet(channel.name), new_ticket(time.time()))
        return _said(scope, decision, _began(decision), arguments.json)
    channel = scope.only
    with channel.lock.claimed():
        decision = _decide(scope, channel, command)
    record = decision.record
    if command == "retry":
        return _said(scope, decision, _began(decision), arguments.json)
    words = f"{channel.name}: version {record.version} is {record.phase.value}: {decision.reason}"
    return _said(scope, decision, words, arguments.json)


def _publish(scope: Scope, arguments: argparse.Namespace) -> str:
    if importlib.util.find_spec("onnx") is None:
        raise EscalonError("publishing needs the cloud's extra: pip install 'escalon[cloud]'")
    from escalon.release.publishing import publish  # noqa: PLC0415 - onnx takes half a second

    done = publish(scope, arguments)
    words = _began(done.decision)
    if not done.is_new:
        words = f"{_known(done.version)}\n{words}"
    return _said(scope, done.decision, words, arguments.json, is_new=done.is_new)


def _said(scope: Scope, decision: Decision, words: str, wants_json: bool, **more: object) -> str:
    """Returns what was decided, and when that takes effect if not at once."""
    signs = scope.signs()
    effect = signs.effect(time.time())
    if wants_json:
        brief = _brief(decision.record)
        return as_json(brief | {"cloud_runs": signs.runs, "takes_effect": effect or "now"} | more)
    return f"{words}\n{effect}" if effect else words


def _decide(scope: Scope, channel: Channel, command: str) -> Decision:
    if command == "retry":
        return channel.retry(scope.fleet(channel.name), new_ticket(time.time()))
    if command == "promote":
        fleet = scope.fleet(channel.name)
        return channel.command(lambda record: promote(record, channel.plan, fleet))
    return channel.command(PLAIN[command])


def _began(decision: Decision) -> str:
    record = decision.record
    return (
        f"{record.channel}/{record.version}: rollout {record.id} {decision.reason}, offered to "
        f"{_offered_to(record)}; see `escalon release status`"
    )


def _known(version: Version) -> str:
    return (
        f"{version.qualified} is this very release already, made {moment(version.made)} by "
        f"{version.by}: it is as it was"
    )


def _offered_to(record: RolloutRecord) -> str:
    names = ", ".join(record.canaries[:5]) + (" ..." if len(record.canaries) > 5 else "")
    if record.share == 1:
        return "everybody"
    return f"{record.share:.3g} of all nodes, and {names}" if record.share else names


def _brief(record: RolloutRecord) -> dict[str, object]:
    """Returns a rollout without its nodes."""
    found = msgspec.to_builtins(record)
    found.pop("nodes")
    return dict(found)
