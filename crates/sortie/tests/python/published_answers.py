"""Calls every Catena route over HTTP, rightly and wrongly, and holds each answer against a description of them: the
published contract, or the one that is served."""

import json
import sys
import urllib.error
import urllib.request

from jsonschema import Draft4Validator, Draft202012Validator

DEADLINE = 60
BASE, CONTRACT = sys.argv[1], json.load(open(sys.argv[2]))
# OpenAPI 3.0 has a schema dialect of its own, which is close to this old one; 3.1 has that of JSON Schema.
VALIDATOR = Draft202012Validator if CONTRACT["openapi"].startswith("3.1") else Draft4Validator
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))



def int64_is_a_string(node):
    """The published contract types 64-bit integers as numbers; canonical JSON writes them as strings."""
    if isinstance(node, list):
        return [int64_is_a_string(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: int64_is_a_string(value) for key, value in node.items()}
    return {**node, "type": "string"} if node.get("format") == "int64" else node


CONTRACT = int64_is_a_string(CONTRACT)
checked = set()


def fits(pattern, path):
    pattern, path = pattern.split("/"), path.split("/")
    same = (wanted == part or wanted.startswith("{") for wanted, part in zip(pattern, path))
    return len(pattern) == len(path) and all(same)


def check(method, path, status, answer):
    path = path.split("?")[0]
    # An exact pattern counts more than one with a parameter.
    patterns = sorted((one for one in CONTRACT["paths"] if fits(one, path)), key=lambda one: "{" in one)
    pattern = next(one for one in patterns if method.lower() in CONTRACT["paths"][one])
    outcome = "200" if status == 200 else "default"
    operation = CONTRACT["paths"][pattern][method.lower()]
    schema = operation["responses"][outcome]["content"]["application/json"]["schema"]
    VALIDATOR({"allOf": [schema], "components": CONTRACT["components"]}).validate(answer)
    checked.add((method, pattern, outcome))


def open_call(method, path, body=None, player=None):
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method)
    if player:
        request.add_header("catena-session-id", player)
    try:
        return OPENER.open(request, timeout=DEADLINE)
    except urllib.error.HTTPError as error:
        return error


def call(method, path, body=None, expect=200, player=None):
    with open_call(method, path, body, player) as response:
        status, answer = response.status, json.load(response)
        assert response.headers["content-type"] == "application/json"
    assert status == expect, (method, path, status, answer)
    check(method, path, status, answer)
    if status != 200:
        assert answer["details"][0]["domain"] == "sortie", answer
    return answer


def wrong(method, path, body=None, expect=400, reason="invalid_field", field=None, player=None):
    answer = call(method, path, body, expect, player)
    info = answer["details"][0]
    assert info["reason"] == reason, (path, answer)
    assert info.get("metadata", {}).get("field") == field, (path, answer)
    assert field is None or field in answer["message"], (path, answer)


def line_of(stream, path):
    line = json.loads(stream.readline())
    check("GET", path, 200, line)
    return line["event"]


def a_match():
    game = {"matchId": "m1", "playerIds": ["p1", "p2"], "matchProperties": '{"map": "dust"}'}
    call("POST", "/api/v1/events/emit", {"nestedEvent": {"newMatchEvent": {"match": game}}, "broadcast": True})
    queued = call("GET", "/api/v1/matches")
    assert queued["matches"] == [game], queued
    offer = call("POST", "/api/v1/server/request_match", {"server_id": "s1", "hint_flags": "HINT_FLAG_WILLING_TO_WAIT"})
    assert offer["match"] == game, offer
    ready = {"serverId": "s1", "matchId": "m1", "connectionDetails": "203.0.113.7:7777", "hintFlags": 16}
    call("POST", "/api/v1/server/match_ready", ready)
    active = call("GET", "/api/v1/matchbroker/admin/list-active-matches")
    assert active["matches"] == [game], active
    assert call("GET", "/api/v1/matchbroker/admin/match/m1")["match"] == game
    servers = call("POST", "/api/v1/servers", {})["servers"]
    if "get" in CONTRACT["paths"]["/api/v1/servers"]:
        assert call("GET", "/api/v1/servers")["servers"] == servers
    held = {"matchId": "m1", "connectionString": "203.0.113.7:7777"}
    assert servers == [{"serverId": "s1", "requestedMatch": True, "matches": [held]}], servers
    ended = call("POST", "/api/v1/server/end_match", {"serverId": "s1", "matchId": "m1", "hintFlags": 9})
    assert ended == {"matchId": "m1"}, ended


def administration():
    assert call("GET", "/api/v1/matchbroker/healthz")["healthy"] is True
    assert call("GET", "/api/v1/matchbroker/admin/allocators/available")["allocatorNames"] == ["local_process"]
    fleets = call("GET", "/api/v1/matchbroker/admin/allocators/configured")["allocators"]
    assert [fleet["name"] for fleet in fleets] == ["local"], fleets
    config = "/api/v1/matchbroker/admin/config"
    before = call("GET", config)
    call("POST", "/api/v1/matchbroker/admin/reconfigure?matchReadyTimeSeconds=31&fastSchedule=2")
    assert call("GET", config) == {**before, "matchReadyTimeSeconds": 31, "fastSchedule": 2}
    call("POST", "/api/v1/matchbroker/admin/reconfigure?fastSchedule=1")
    new_match = {"nestedEvent": {"newMatchEvent": {"match": {"matchId": "m2", "playerIds": ["p3"]}}}}
    call("POST", "/api/v1/admin/events/emit", new_match)
    assert call("DELETE", "/api/v1/matchbroker/admin/delete/m2") == {"matchDeleted": True}
    server = call("POST", "/api/v1/server/allocate", {"match": {"matchId": "m3", "playerIds": ["p4"]}})["serverId"]
    gone = call("POST", "/api/v1/server/deallocate", {"serverId": server})
    assert gone == {"success": True, "state": "SERVER_STATE_PENDING"}, gone
    told = call("POST", "/api/v1/server/request_match", {"serverId": server})
    assert told == {"hintFlags": "HINT_FLAG_SHUTDOWN"}, told


def streams():
    path = "/api/v1/events/subscribe"
    tags = path + "/tags?eventTags=new-match&senderId=me"
    with open_call("GET", path, player="p5") as mine, open_call("GET", tags) as tagged:
        assert "emptyEvent" in line_of(mine, path)
        assert "emptyEvent" in line_of(tagged, tags)
        game = {"matchId": "m5", "playerIds": ["p5"]}
        call("POST", "/api/v1/events/emit", {"nestedEvent": {"newMatchEvent": {"match": game}}})
        update = line_of(mine, path)["matchmakingStatusUpdateEvent"]
        assert update["type"] == "MATCHMAKING_STATUS_UPDATE_TYPE_FINDING_SERVER", update
        assert line_of(tagged, tags)["newMatchEvent"]["match"] == game


def account(player):
    return {"id": player, "entityType": "ENTITY_TYPE_ACCOUNT"}


def tickets():
    path = "/api/v1/matchmaking/"
    assert call("GET", path + "healthz")["healthy"] is True
    queue = {"queue_name": {"stringPayload": "crowd"}}
    party = {"entityType": 3, "entities": [account("t1"), account("t2")], "metadata": queue}
    mine = call("POST", path + "start", {"entity": party}, player="t1")["ticketId"]
    assert call("GET", path + mine, player="t2") == {"status": "MATCHMAKING_STATUS_IN_PROGRESS"}
    theirs = call("POST", path + "server/start", {"entity": {**account("t3"), "metadata": queue}})["ticketId"]
    assert call("GET", path + "server/" + theirs) == {"status": "MATCHMAKING_STATUS_IN_PROGRESS"}
    listed = call("GET", path + "tickets")["tickets"]
    assert [ticket["ticketId"] for ticket in listed] == [mine, theirs], listed
    config = call("GET", path + "admin/config")["catenaMatchmakerConfig"]
    assert int(config["matchmakingQueues"]["crowd"]["playersPerTeam"]) == 50, config
    call("POST", path + "admin/config", {"config": json.dumps({"StatusExpirationMinutes": 3})})
    assert int(call("GET", path + "admin/config")["catenaMatchmakerConfig"]["statusExpirationMinutes"]) == 3
    call("POST", path + "cancel", {"ticketId": mine}, player="t2")
    call("POST", path + "server/cancel", {"ticketId": theirs})
    assert call("GET", path + "server/" + theirs) == {"status": "MATCHMAKING_STATUS_CANCELLED"}

    unknown = {"expect": 404, "reason": "ticket_not_found"}
    wrong("POST", path + "start", {}, field="entity", player="t1")
    wrong("POST", path + "server/start", {}, field="entity")
    wrong("POST", path + "cancel", {"ticketId": "none"}, player="t1", **unknown)
    wrong("POST", path + "server/cancel", {"ticketId": "none"}, **unknown)
    wrong("GET", path + "none", player="t1", **unknown)
    wrong("GET", path + "server/none", **unknown)
    wrong("POST", path + "admin/config", {"config": "{}{}"}, field="config")


def refusals():
    server = "/api/v1/server/"
    wrong("POST", server + "request_match", b"{", reason="invalid_json")
    wrong("POST", server + "request_match", b"[" * 10_000, reason="invalid_json")
    wrong("POST", server + "request_match", {"serverId": 3}, reason="invalid_json", field="serverId")
    wrong("POST", server + "request_match", {}, field="serverId")
    wrong("POST", server + "match_ready", {"serverId": "s9"}, field="matchId")
    wrong("POST", server + "end_match", {"serverId": "s9", "matchId": "m"}, expect=404, reason="match_not_found")
    wrong("POST", server + "allocate", {"match": {"playerIds": [""]}}, field="match.playerIds[0]")
    wrong("POST", server + "deallocate", {"serverId": "s9"}, expect=404, reason="server_not_found")
    wrong("POST", "/api/v1/servers", b"nope", reason="invalid_json")
    broker = "/api/v1/matchbroker/admin/"
    wrong("GET", broker + "match/none", expect=404, reason="match_not_found")
    wrong("DELETE", broker + "delete/none", expect=404, reason="match_not_found")
    wrong("POST", broker + "reconfigure?fastSchedule=3", field="fastSchedule")
    emit = {"nestedEvent": {"emptyEvent": {}}}
    for path in ["/api/v1/events/emit", "/api/v1/admin/events/emit"]:
        wrong("POST", path, emit, reason="unsupported_event", field="nestedEvent")
    wrong("GET", "/api/v1/events/subscribe", expect=401, reason="unauthenticated", field="catena-session-id")
    wrong("GET", "/api/v1/events/subscribe/tags", field="eventTags")


def published():
    for path, operations in CONTRACT["paths"].items():
        if path.startswith("/api/"):
            yield from ((method.upper(), path) for method in operations)


def validator_can_fail():
    try:
        check("POST", "/api/v1/server/end_match", 200, {"matchID": "m"})
    except Exception:
        return
    raise AssertionError("the check takes anything")


validator_can_fail()
a_match()
administration()
streams()
tickets()
refusals()
missing = [one for one in published() if (*one, "200") not in checked]
assert not missing, missing
# These have nothing to be wrong about.
plain = {path for method, path in published() if method == "GET" and "{" not in path and "subscribe" not in path}
missing = [one for one in published() if (*one, "default") not in checked and one[1] not in plain]
assert not missing, missing
print("done")
