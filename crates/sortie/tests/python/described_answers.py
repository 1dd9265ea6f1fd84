"""Holds the description that a server gives of itself against the specification of OpenAPI, and the server's answers
against the description: every route that is not Catena's."""

import json
import sys
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from prometheus_client.openmetrics.parser import text_string_to_metric_families

DEADLINE = 60
BASE = sys.argv[1]
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

checked = set()


def open_call(method, path, body=None, player=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"session-id": player} if player else {}
    request = urllib.request.Request(BASE + path, data=data, method=method, headers=headers)
    try:
        return OPENER.open(request, timeout=DEADLINE)
    except urllib.error.HTTPError as error:
        return error


def closed(node):
    """The same schema, which takes no property that it does not name: what is sent has to be described."""
    if isinstance(node, list):
        return [closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(value) for key, value in node.items()}
    if "properties" in node and node.get("type") == "object":
        node.setdefault("additionalProperties", False)
    return node


with open_call("GET", "/openapi.json") as response:
    DOCUMENT = json.load(response)
COMPONENTS = closed(DOCUMENT["components"])


def fits(pattern, path):
    pattern, path = pattern.split("/"), path.split("/")
    same = (wanted == part or wanted.startswith("{") for wanted, part in zip(pattern, path))
    return len(pattern) == len(path) and all(same)


def operation_of(method, path):
    patterns = sorted((one for one in DOCUMENT["paths"] if fits(one, path)), key=lambda one: "{" in one)
    pattern = next(one for one in patterns if method.lower() in DOCUMENT["paths"][one])
    return pattern, DOCUMENT["paths"][pattern][method.lower()]


def check(method, path, status, kind, answer):
    pattern, operation = operation_of(method, path.split("?")[0])
    outcome = str(status) if str(status) in operation["responses"] else "default"
    schema = closed(operation["responses"][outcome]["content"][kind]["schema"])
    Draft202012Validator({"allOf": [schema], "components": COMPONENTS}).validate(answer)
    checked.add((method, pattern, outcome))


def call(method, path, body=None, expect=200, player=None):
    with open_call(method, path, body, player) as response:
        status, answer = response.status, json.load(response)
    assert status == expect, (method, path, status, answer)
    check(method, path, status, "application/json", answer)
    return answer


def specification():
    errors = list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors())
    assert not errors, errors[:3]
    broken = {**DOCUMENT, "info": {"title": "no version"}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors()), "the validator takes anything"


def validator_can_fail():
    try:
        check("GET", "/v1/fleets", 200, "application/json", {"fleets": [], "more": 1})
    except Exception:
        return
    raise AssertionError("the check takes anything")


def matches_and_seats():
    order = {
        "players": ["a"], "properties": {"mode": "duel", "deep": [1, {"x": None}]},
        "player_properties": {"a": {"skill": 3}}, "capacity": 3, "idempotency_key": "k",
    }
    match = call("POST", "/v1/matches", order, expect=202)["match_id"]
    call("GET", f"/v1/matches/{match}")
    explained = call("GET", f"/v1/matches/{match}/explain")
    assert explained["state"] == "queued" and explained["timers"] and explained["sentences"], explained
    call("GET", "/v1/matches?limit=1&state=queued,ready")
    offer = call("POST", "/api/v1/server/request_match", {"serverId": "s1"})
    assert offer["match"]["matchId"] == match, offer
    ready = {"serverId": "s1", "matchId": match, "connectionDetails": "203.0.113.7:7777"}
    call("POST", "/api/v1/server/match_ready", {**ready, "perPlayerConnectionDetails": {"a": "203.0.113.8:1"}})
    shown = call("GET", f"/v1/matches/{match}")
    assert shown["state"] == "ready", shown
    seats = f"/v1/matches/{match}/seats"
    seat = call("POST", seats, {"player_id": "b", "ttl_seconds": 60}, expect=201)["seat_id"]
    listed = call("GET", seats)
    assert [one["seat_id"] for one in listed["seats"]] == [seat], listed
    call("POST", f"/v1/seats/{seat}/claim", {"server_id": "s1"})
    assert call("GET", f"{seats}?seen={listed['seen']}")["seats"][0]["state"] == "claimed"
    free = f"/v1/matches/{match}/free-seats"
    assert call("PUT", free, {"free": 2, "server_id": "s1"})["seats"]["free"] == 2
    call("PUT", free, {"free": 2, "server_id": "s2"}, expect=409)
    call("PUT", free, {"free": -1}, expect=400)
    call("GET", "/v1/servers")
    call("GET", "/v1/fleets")
    call("DELETE", f"/v1/seats/{seat}")
    call("DELETE", f"/v1/matches/{match}")
    assert call("GET", f"/v1/matches/{match}/explain")["state"] == "cancelled"
    other = call("POST", "/v1/matches", {"players": ["c"]}, expect=202)["match_id"]
    call("POST", f"/v1/matches/{other}/seats", {"player_id": "d"}, expect=409)


def tickets():
    players = [
        {"id": "t1", "ratings": {"mmr": 1200}, "latencies": {"eu": 20}, "blocked": ["x"], "properties": {"skin": "red"}},
        {"id": "t2"},
    ]
    order = {
        "queue": "crowd", "players": players, "leader": "t1", "properties": {"map": "dust"}, "latencies": {"eu": 30},
        "idempotency_key": "tk",
    }
    ticket = call("POST", "/v1/tickets", order, expect=201)["ticket_id"]
    parties = [{"id": "one", "players": [{"id": "t3"}]}, {"players": [{"id": "t4"}]}]
    other = call("POST", "/v1/tickets", {"queue": "crowd", "parties": parties}, expect=201)["ticket_id"]
    assert call("GET", f"/v1/tickets/{ticket}")["state"] == "waiting"
    assert [one["ticket_id"] for one in call("GET", "/v1/tickets?limit=1")["tickets"]] == [ticket]
    assert [one["ticket_id"] for one in call("GET", "/v1/tickets?player=t4")["tickets"]] == [other]
    explained = call("GET", f"/v1/tickets/{other}/explain")
    assert explained["ahead"] == 1 and explained["sentences"], explained
    assert "crowd" in [one["queue"] for one in call("GET", "/v1/queues")["queues"]]
    assert "renew_by" not in call("POST", f"/v1/tickets/{other}/renew")
    for one in [ticket, other]:
        assert call("DELETE", f"/v1/tickets/{one}")["state"] == "cancelled"
    assert call("GET", f"/v1/tickets/{ticket}/explain")["state"] == "cancelled"

    asked = [call("POST", "/v1/tickets", {"queue": "asked", "players": [{"id": one}]}, expect=201) for one in "uv"]
    first, second = [one["ticket_id"] for one in asked]
    while call("GET", f"/v1/tickets/{first}")["state"] != "proposed":
        pass
    assert call("POST", f"/v1/tickets/{first}/accept", {"player_id": "u"})["accept"]["accepted"] == ["u"]
    assert call("POST", f"/v1/tickets/{second}/decline", {"player_id": "v"})["reason"] == "declined"
    call("POST", f"/v1/tickets/{first}/accept", {"player_id": "u"}, expect=409)
    call("POST", f"/v1/tickets/{second}/decline", {}, expect=400)
    call("DELETE", f"/v1/tickets/{first}")
    call("POST", "/v1/tickets", {"queue": "crowd"}, expect=400)
    for path in ["/v1/tickets/none", "/v1/tickets/none/explain"]:
        call("GET", path, expect=404)
    call("DELETE", "/v1/tickets/none", expect=404)
    call("POST", "/v1/tickets/none/renew", expect=404)
    for path in ["/v1/tickets", "/v1/queues"]:
        call("GET", path + "?limit=0", expect=400)


def refusals():
    call("POST", "/v1/matches", {"players": [3]}, expect=400)
    call("POST", "/v1/matches/none/seats", {"player_id": "b"}, expect=404)
    call("POST", "/v1/seats/none/claim", {}, expect=404)
    call("PUT", "/v1/matches/none/free-seats", {"free": 1}, expect=404)
    call("GET", "/v1/matches/none/seats", expect=404)
    call("GET", "/v1/matches/none/seats?seen=x", expect=400)
    for path in ["/v1/matches/none", "/v1/matches/none/explain"]:
        call("GET", path, expect=404)
    for path in ["/v1/matches/none", "/v1/seats/none"]:
        call("DELETE", path, expect=404)
    for path in ["/v1/matches", "/v1/servers", "/v1/fleets"]:
        call("GET", path + "?limit=0", expect=400)
    call("GET", "/v1/events?from=x", expect=400)
    call("GET", "/docs/none", expect=404)


def others():
    call("GET", "/healthz")
    call("GET", "/readyz")
    call("GET", "/openapi.json")
    with open_call("GET", "/v1/events?from=earliest") as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        check("GET", "/v1/events", 200, "text/event-stream", stream.readline().decode())
    with open_call("GET", "/v1/events?of=matchmaker&from=earliest") as stream:
        lines = [stream.readline().decode() for _ in range(3)]
        assert any(line.strip() == "event: sortie.matchmaker.configured" for line in lines), lines
    call("GET", "/v1/events?of=everybody", expect=400)
    for path in ["/docs", "/", "/matchmaker"]:
        with open_call("GET", path) as response:
            assert response.headers["content-type"].startswith("text/html"), path
            check("GET", path, 200, "text/html", response.read().decode())
    with open_call("GET", "/metrics") as response:
        kind, text = response.headers["content-type"], response.read().decode()
    check("GET", "/metrics", 200, kind, text)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert families["sortie_build_info"].samples[0].value == 1, families
    assert families["sortie_dispatch_received_bytes"].type == "counter", families
    with open_call("GET", "/docs/page.js") as response:
        check("GET", "/docs/page.js", 200, "*/*", response.read().decode())


def players():
    for prefix in ["", "/matchmaker"]:
        path = prefix + "/wannaplay"
        call("POST", path + "?game=arena&version=1")
        call("GET", path + "?game=arena&version=1")
        for method in ["GET", "POST"]:
            with open_call(method, path + "?game=none&version=1") as response:
                assert response.status == 404
                check(method, path, 404, "text/plain", response.read().decode())
    guest = {"player_key": call("POST", "/wannaplay?game=arena&version=1")["player_key"]}
    statuses = []
    for match in ["none"] + [one["match_id"] for one in call("GET", "/v1/matches?state=ready")["matches"]]:
        path = f"/matchmaker/matches/{match}/rejoin"
        with open_call("POST", path, guest) as response:
            statuses.append(response.status)
            text = response.read().decode()
            if response.status == 200:
                check("POST", path, 200, "application/json", json.loads(text))
            else:
                check("POST", path, response.status, "text/plain", text)
    assert statuses[0] == 404 and statuses.count(200) == 1, statuses
    path = "/matchmaker/request/arena/1"
    with open_call("POST", path) as response:
        feedback = [json.loads(line) for line in response]
    assert feedback[0] == "Acknowledged" and "SessionReady" in feedback[-1], feedback
    for one in feedback:
        check("POST", path, 200, "application/json", one)
    call("POST", "/matchmaker/request/none/1", expect=404)
    with open_call("GET", "/matchmaker/ws") as response:
        assert response.status == 400, response.status
        check("GET", "/matchmaker/ws", response.status, "text/plain", response.read().decode())
    asked = [call("POST", "/v1/tickets", {"queue": "asked", "players": [{"id": one}]}, expect=201) for one in "xy"]
    first, second = (f"/matchmaker/tickets/{one['ticket_id']}" for one in asked)
    while call("GET", f"/v1/tickets/{asked[0]['ticket_id']}")["state"] != "proposed":
        pass
    assert "accepted" in call("POST", first + "/accept", player="x")["message"]
    call("POST", second + "/decline", player="y")
    for path in [first + "/accept", second + "/decline"]:
        with open_call("POST", path, player="z") as response:
            assert response.status == 404, response.status
            check("POST", path, response.status, "text/plain", response.read().decode())
    call("DELETE", f"/v1/tickets/{asked[0]['ticket_id']}")


def ports_on_demand():
    wish = {
        "ports": [7777, "8000-8999"], "accept": ["10.0.0.0/8"], "protocol": "udp", "expires_in": "5m", "bytes": 1,
        "bytes_per_second": 1,
    }
    call("POST", "/v1/dispatch/tokens", wish, expect=201)
    call("POST", "/v1/dispatch/tokens", {**wish, "ports": [0]}, expect=400)
    assert call("GET", "/v1/dispatch/stats")["drivers"] == 0
    for family in ["/api/server", "/api/dispatch/v1"]:
        for path in ["", "/healthz", "/version"]:
            call("GET", family + path)
        for protocol in ["tcp", "udp"]:
            path = f"{family}/{protocol}_dispatch"
            call("GET", path + "?accept=10.0.0.1", expect=422)
            call("GET", path + "?accept=10.0.0.1&port=0", expect=400)
            call("GET", path + "?accept=10.0.0.1&port=7777", expect=426)


specification()
validator_can_fail()
matches_and_seats()
tickets()
refusals()
others()
ports_on_demand()
players()
described = {
    (method.upper(), path, outcome)
    for path, item in DOCUMENT["paths"].items() if not path.startswith("/api/")
    for method, operation in item.items() for outcome in operation["responses"]
}
# These have nothing to be wrong about, or need another kind of client.
plain = ["/", "/matchmaker", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/dispatch/stats"]
missing = [one for one in described - checked if not (one[1] in plain and one[2] == "default") and one[2] != "101"]
assert not missing, missing
print("done")
