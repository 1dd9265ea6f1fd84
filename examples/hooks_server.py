#!/usr/bin/env python3
"""Hooks of the matchmaker, using only Python's standard library.

    python3 hooks_server.py --port 9000 --banned mallory --maps harbour,quarry

answers three questions, each at a path of its own:

    POST /validate   (kind "validate_ticket")   refuses tickets with a banned player, rates the others
    POST /form       (kind "form_match")        makes matches of two tickets, the oldest first
    POST /map        (kind "new_match")         chooses a map for the match

In the configuration of Sortie:

    [[matchmaker.queues.duel.hooks]]
    kind = "validate_ticket"
    name = "bans"
    url = "http://127.0.0.1:9000/validate"
    on_failure = "refuse"

An answer other than 200, or one that is not a verdict, is a failure: Sortie then does what `on_failure` says.
"""

import argparse
import hashlib
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Maximum size of a question, in bytes: 1,000 tickets with their properties.
MAX_QUESTION_BYTES = 128 * 1024 * 1024


def players_of(ticket):
    return [player["id"] for party in ticket["parties"] for player in party["players"]]


def validate(question, options):
    """Decides who may wait, and sets ratings: those that players send themselves are ignored."""
    banned = [player for player in players_of(question["ticket"]) if player in options.banned]
    if banned:
        return {"accept": False, "reason": f"{', '.join(banned)} may not play"}
    ratings = {player: {"mmr": options.ratings.get(player, 1500)} for player in players_of(question["ticket"])}
    return {"accept": True, "ratings": ratings}


def form(question, _options):
    """Decides which tickets play together. The others keep waiting and are asked about again."""
    tickets = [ticket["ticket_id"] for ticket in question["tickets"] if len(players_of(ticket)) == 1]
    pairs = zip(tickets[::2], tickets[1::2])
    return {"matches": [{"teams": [[one], [other]]} for one, other in pairs]}


def choose_map(question, options):
    """Chooses the map. The same match always gets the same map: a question may be asked twice."""
    match = question["match"]
    digest = hashlib.sha256(match["match_id"].encode()).digest()
    chosen = options.maps[digest[0] % len(options.maps)]
    return {"accept": True, "properties": {**match["properties"], "map": chosen}}


QUESTIONS = {"/validate": validate, "/form": form, "/map": choose_map}


class Hooks(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Seconds after which a silent caller is disconnected.
    timeout = 60

    def do_POST(self):
        length = int(self.headers.get("content-length") or 0)
        if length > MAX_QUESTION_BYTES:
            self.close_connection = True
            return self.answer(413, {"error": "the question is too long"})
        body = self.rfile.read(length)
        key = self.server.options.key
        if key and self.headers.get("authorization") != f"Bearer {key}":
            return self.answer(401, {"error": "send the key as `authorization: Bearer …` (key_env)"})
        question = QUESTIONS.get(self.path)
        if question is None:
            return self.answer(404, {"error": f"ask at one of {', '.join(QUESTIONS)}"})
        try:
            answer = question(json.loads(body), self.server.options)
        except (ValueError, KeyError, TypeError) as error:
            return self.answer(400, {"error": f"not understood: {error!r}"})
        return self.answer(200, answer)

    def answer(self, status, document):
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Logs nothing: one line per ticket would be too much."""


def main():
    names = lambda text: [name for name in text.split(",") if name]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=9000, help="0 takes a free one (default: 9000)")
    parser.add_argument("--banned", type=names, default=[], help="player ids, with commas between")
    parser.add_argument("--ratings", type=json.loads, default={}, help='as JSON: {"ann": 1800}; others have 1500')
    parser.add_argument("--maps", type=names, default=["harbour"], help="names, with commas between")
    options = parser.parse_args()
    options.key = os.environ.get("HOOK_KEY", "")
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Hooks)
    server.options = options
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
