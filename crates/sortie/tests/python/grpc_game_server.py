"""A game server, a backend and a player over gRPC."""

import grpc
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from reflected import BROKER, EVENTS, HEALTH, KEY, MANAGER, begin, call, database, key, pool, refusal, subscribe

SHUTDOWN, WILLING_TO_WAIT, WILLING_TO_SHUTDOWN, FULL, NOT_FULL = 1, 2, 4, 8, 16


def services_and_health():
    names = set(database.get_services())
    assert {MANAGER, BROKER, EVENTS, HEALTH} <= names, names
    for service in ["", MANAGER, BROKER, EVENTS]:
        assert begin(HEALTH, "Check", metadata=(), service=service).result().status == 1, service
    error = begin(HEALTH, "Check", metadata=(), service="unknown").exception()
    assert error.code() == grpc.StatusCode.NOT_FOUND
    assert begin(BROKER, "GetServiceHealth", metadata=()).result().healthy


def keys():
    denied = grpc.StatusCode.UNAUTHENTICATED
    for metadata in [(), (("authorization", "Bearer wrong"),)]:
        refusal(denied, "unauthenticated", None, MANAGER, "ListServers", metadata=metadata)
    catena = (("catena-api-key", key),)
    begin(MANAGER, "ListServers", metadata=catena).result()


def listed(server):
    servers = call(MANAGER, "ListServers").servers
    return next((one for one in servers if one.server_id == server), None)


def news(stream, kind):
    update = next(stream).event.matchmaking_status_update_event
    name = type(update).DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number[update.type].name
    assert name == f"MATCHMAKING_STATUS_UPDATE_TYPE_{kind}", update
    return update


def whole_match():
    player = subscribe("SubscribeToEvents", [("catena-session-id", "p1")])
    by_tag = subscribe("SubscribeToEventsByTag", [], eventTags=["new-match"])

    idle = call(MANAGER, "RequestMatch", serverId="s1", hintFlags=NOT_FULL)
    assert not idle.HasField("match") and idle.hint_flags == 0, idle
    waiting = begin(
        MANAGER,
        "RequestMatch",
        serverId="s1",
        requirements="MatchProperties.map == 'dust' && length(PlayerIds) == `2`",
        hintFlags=WILLING_TO_WAIT | NOT_FULL,
    )
    game = {
        "matchId": "dust-1",
        "playerIds": ["p1", "p2"],
        "matchProperties": '{"map":"dust"}',
        "playerProperties": {"p1": '{"rank":3}'},
    }
    emitted = call(EVENTS, "EmitUpdateEvent", nestedEvent={"newMatchEvent": {"match": game}})
    assert emitted.broadcast_success
    offer = waiting.result()
    assert json_format.MessageToDict(offer.match) == game, offer
    tagged = next(by_tag)
    assert list(tagged.event_tags) == ["new-match"]
    assert json_format.MessageToDict(tagged.event.new_match_event.match) == game, tagged
    assert news(player, "FINDING_SERVER").ticket_id == "dust-1"

    ready = call(
        MANAGER,
        "MatchReady",
        serverId="s1",
        matchId="dust-1",
        connectionDetails="203.0.113.7:7777",
        perPlayerConnectionDetails={"p1": "203.0.113.7:7778"},
        hintFlags=FULL,
    )
    assert (ready.match_id, ready.hint_flags) == ("dust-1", 0), ready
    assert news(player, "COMPLETED").message == "203.0.113.7:7778"
    server = listed("s1")
    assert server.is_full and server.matches[0].match_id == "dust-1", server
    assert server.matches[0].connection_string == "203.0.113.7:7777", server
    active = call(BROKER, "AdminListActiveMatches")
    assert [match.match_id for match in active.matches] == ["dust-1"]
    # Who is full does not wait, willing or not.
    full = call(MANAGER, "RequestMatch", serverId="s1", hintFlags=FULL | WILLING_TO_WAIT)
    assert not full.HasField("match"), full

    ended = call(MANAGER, "EndMatch", serverId="s1", matchId="dust-1", hintFlags=SHUTDOWN | FULL)
    assert (ended.match_id, ended.hint_flags) == ("dust-1", 0), ended
    assert not call(BROKER, "AdminListActiveMatches").matches
    assert listed("s1") is None
    player.cancel()
    by_tag.cancel()


def told_to_exit():
    waiting = begin(MANAGER, "RequestMatch", serverId="s9", hintFlags=WILLING_TO_WAIT | WILLING_TO_SHUTDOWN)
    while listed("s9") is None:
        pass
    assert not waiting.done()
    stopped = call(MANAGER, "AdminDeallocateServer", serverId="s9")
    assert stopped.success, stopped
    answer = waiting.result()
    assert answer.hint_flags == SHUTDOWN and not answer.HasField("match"), answer
    # It registered itself and has been told, so that the next one of its id is a new server.
    anew = call(MANAGER, "RequestMatch", serverId="s9")
    assert anew.hint_flags == 0 and listed("s9") is not None, anew


def several_matches():
    for name in ["many-1", "many-2", "many-3", "many-4"]:
        game = {"matchId": name, "playerIds": [], "matchProperties": '{"map":"many"}'}
        call(EVENTS, "EmitUpdateEvent", nestedEvent={"newMatchEvent": {"match": game}})
    ask = {"serverId": "s7", "requirements": "MatchProperties.map == 'many'"}
    one = call(MANAGER, "RequestMatch", **ask)
    assert one.match.match_id == "many-1" and not one.matches, one
    # A server that asks again before it is ready may have lost the answer, and gets the match again, first of all.
    again = call(MANAGER, "RequestMatch", maxMatches=1, **ask)
    assert [match.match_id for match in again.matches] == ["many-1"], again
    call(MANAGER, "MatchReady", serverId="s7", matchId="many-1", connectionDetails="203.0.113.7:7777")
    offer = call(MANAGER, "RequestMatch", maxMatches=2, **ask)
    assert [match.match_id for match in offer.matches] == ["many-2", "many-3"], offer
    assert offer.match == offer.matches[0] and offer.match.match_properties == '{"map":"many"}', offer
    for name in ["many-2", "many-3"]:
        call(MANAGER, "MatchReady", serverId="s7", matchId=name, connectionDetails="203.0.113.7:7777")
    # A call that goes away while it collects gives back what it has.
    begin(MANAGER, "RequestMatch", maxMatches=3, waitSeconds=60, **ask).cancel()
    while call(BROKER, "ListQueuedMatches").matches == []:
        pass
    collecting = begin(MANAGER, "RequestMatch", maxMatches=2, waitSeconds=60, **ask)
    while call(BROKER, "ListQueuedMatches").matches:
        pass
    assert not collecting.done()
    game = {"matchId": "many-5", "playerIds": [], "matchProperties": '{"map":"many"}'}
    call(EVENTS, "EmitUpdateEvent", nestedEvent={"newMatchEvent": {"match": game}})
    offer = collecting.result()
    assert [match.match_id for match in offer.matches] == ["many-4", "many-5"], offer
    for name in ["many-1", "many-2", "many-3", "many-4", "many-5"]:
        call(MANAGER, "EndMatch", serverId="s7", matchId=name)
    none = call(MANAGER, "RequestMatch", maxMatches=2, **ask)
    assert not none.HasField("match") and not none.matches, none


def refusals():
    invalid, failed = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION
    ask = (MANAGER, "RequestMatch")
    refusal(invalid, "invalid_field", "serverId", *ask)
    refusal(invalid, "invalid_field", "serverId", *ask, serverId="a\nb")
    refusal(invalid, "invalid_field", "hintFlags", *ask, serverId="s2", hintFlags=32)
    refusal(invalid, "invalid_requirements", "requirements", *ask, serverId="s2", requirements="a[")
    for most in [0, -1, 33, 2**31 - 1]:
        refusal(invalid, "invalid_field", "maxMatches", *ask, serverId="s2", maxMatches=most)
    for wait in [-1, 301]:
        refusal(invalid, "invalid_field", "waitSeconds", *ask, serverId="s2", waitSeconds=wait)
    lost = refusal(
        grpc.StatusCode.NOT_FOUND, "match_not_found", None, MANAGER, "EndMatch", serverId="s2", matchId="none"
    )
    assert "none" in lost.message
    unheld = refusal(
        failed, "match_not_held", None, MANAGER, "MatchReady", serverId="s2", matchId="dust-1", connectionDetails="x"
    )
    answer = GetMessageClass(pool.FindMessageTypeByName("catena.catena_server_manager.MatchReadyResponse"))()
    assert unheld.details[1].Unpack(answer) and answer.match_id == "dust-1", unheld
    assert listed("s2") is None


services_and_health()
keys()
whole_match()
told_to_exit()
several_matches()
refusals()
print("done")
