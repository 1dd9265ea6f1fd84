"""Players, a game server and an operator over gRPC: tickets, what becomes of them, and who hears of it."""

import json

import grpc
from google.protobuf import json_format

from reflected import HEALTH, KEY, MANAGER, MATCHMAKING, begin, call, refusal, subscribe

WILLING_TO_WAIT = 2


def entity(*players, queue="duel"):
    accounts = [{"id": player, "entityType": "ENTITY_TYPE_ACCOUNT"} for player in players]
    metadata = {"queue_name": {"stringPayload": queue}}
    if len(accounts) == 1:
        return {**accounts[0], "metadata": metadata}
    return {"entityType": "ENTITY_TYPE_GROUP", "entities": accounts, "metadata": metadata}


def as_player(player):
    return (KEY, ("catena-session-id", player))


def mine(name, player, **fields):
    return begin(MATCHMAKING, name, metadata=as_player(player), **fields).result()


def listen(player, last=None):
    more = [("last-event-id", last)] if last else []
    return subscribe("SubscribeToEvents", [("catena-session-id", player), *more])


def news(stream):
    while True:
        event = next(stream).event
        if event.WhichOneof("payload") == "matchmaking_status_update_event":
            update = event.matchmaking_status_update_event
            kinds = type(update).DESCRIPTOR.fields_by_name["type"].enum_type.values_by_number
            kind = kinds[update.type].name.removeprefix("MATCHMAKING_STATUS_UPDATE_TYPE_")
            return event.event_id, kind, update


def status(ticket):
    answer = call(MATCHMAKING, "ServerGetMatchmakingStatus", ticketId=ticket)
    return json_format.MessageToDict(answer)["status"].removeprefix("MATCHMAKING_STATUS_")


def health():
    assert begin(HEALTH, "Check", metadata=(), service=MATCHMAKING).result().status == 1
    assert begin(MATCHMAKING, "GetServiceHealth", metadata=()).result().healthy


def a_duel():
    first, second = listen("p1"), listen("p2")
    ticket = mine("StartMatchmaking", "p1", entity=entity("p1")).ticket_id
    other = call(MATCHMAKING, "ServerStartMatchmaking", entity=entity("p2")).ticket_id
    offer = begin(MANAGER, "RequestMatch", serverId="s1", hintFlags=WILLING_TO_WAIT).result()
    assert sorted(offer.match.player_ids) == ["p1", "p2"], offer
    assert json.loads(offer.match.match_properties)["queue_name"] == "duel", offer
    details = {"connectionDetails": "203.0.113.7:7777", "perPlayerConnectionDetails": {"p2": "203.0.113.7:7778"}}
    call(MANAGER, "MatchReady", serverId="s1", matchId=offer.match.match_id, **details)
    for stream, own, where in [(first, ticket, "203.0.113.7:7777"), (second, other, "203.0.113.7:7778")]:
        heard = [news(stream) for _ in range(3)]
        assert [kind for _, kind, _ in heard] == ["IN_PROGRESS", "FINDING_SERVER", "COMPLETED"], heard
        assert {update.ticket_id for _, _, update in heard} == {own}, heard
        assert heard[2][2].message == where, heard
        assert json.loads(heard[2][2].additional_event_data)["matchId"] == offer.match.match_id, heard
        stream.cancel()
    assert (status(ticket), status(other)) == ("COMPLETED", "COMPLETED")
    # From where it was: what comes next, and nothing again.
    last, kind, _ = heard[2]
    again = listen("p2", last=last)
    ended = call(MANAGER, "EndMatch", serverId="s1", matchId=offer.match.match_id)
    assert ended.match_id == offer.match.match_id
    third = mine("StartMatchmaking", "p2", entity=entity("p2", queue="crowd")).ticket_id
    assert news(again)[2].ticket_id == third
    mine("CancelMatchmaking", "p2", ticketId=third)
    again.cancel()


def a_party():
    ticket = mine("StartMatchmaking", "a", entity=entity("a", "b", queue="crowd")).ticket_id
    listed = call(MATCHMAKING, "ListTickets").tickets
    assert [one.ticket_id for one in listed] == [ticket], listed
    assert [one.id for one in listed[0].entity.entities] == ["a", "b"], listed
    assert listed[0].entity.metadata["leader"].string_payload == "a", listed
    mine("CancelMatchmaking", "b", ticketId=ticket)
    assert status(ticket) == "CANCELLED"


def refusals():
    invalid, denied = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED
    start = (MATCHMAKING, "StartMatchmaking")
    refusal(grpc.StatusCode.UNAUTHENTICATED, "unauthenticated", "catena-session-id", *start, entity=entity("p3"))
    refusal(denied, "forbidden", "entity", *start, metadata=as_player("p3"), entity=entity("p4"))
    refusal(invalid, "invalid_field", "entity", *start, metadata=as_player("p3"))
    missing = (grpc.StatusCode.NOT_FOUND, "ticket_not_found", None)
    refusal(*missing, MATCHMAKING, "GetMatchmakingStatus", metadata=as_player("p3"), ticketId="none")
    bad = {"config": json.dumps({"MatchmakingQueues": {"x": {"Teams": 2}}})}
    refusal(invalid, "invalid_field", "config", MATCHMAKING, "AdminXReconfigureMatchmaker", **bad)


def queues():
    config = call(MATCHMAKING, "AdminXGetMatchmakerConfig").catena_matchmaker_config
    assert config.matchmaking_queues["duel"].players_per_team == 1, config
    block = {"Matchmaker": {"StatusExpirationMinutes": config.status_expiration_minutes + 1}}
    assert call(MATCHMAKING, "AdminXReconfigureMatchmaker", config=json.dumps(block)).success
    after = call(MATCHMAKING, "AdminXGetMatchmakerConfig").catena_matchmaker_config
    assert after.status_expiration_minutes == config.status_expiration_minutes + 1, after
    assert set(after.matchmaking_queues) == set(config.matchmaking_queues), after


health()
a_duel()
a_party()
refusals()
queues()
print("done")
