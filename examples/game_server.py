#!/usr/bin/env python3
"""A game server that talks to the sidecar next to it, and needs only Python.

    sortie up --dev &
    sortie sidecar --config examples/sidecar.json &
    python3 examples/game_server.py       # waits for a match
    sortie match submit --player alice    # gives it one

It names no server and no match: the sidecar knows both. It does not know its own public address either: the sidecar's
resolver puts that in. The game is an echo over UDP.
"""

import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request

SIDECAR = os.environ.get("CATENA_SIDECAR_HTTP", "http://127.0.0.1:8085")
PORT = int(os.environ.get("GAME_PORT", "7777"))
PLAY_SECONDS = float(os.environ.get("PLAY_SECONDS", "5"))
MATCHES = int(os.environ.get("MATCHES", "1"))

SHUTDOWN, WILLING_TO_WAIT = 1, 2
# The sidecar is on this machine: no proxy is in between.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def call(name, message):
    """One call of the server manager. Retries if nobody answers, because the sidecar may still be starting."""
    request = urllib.request.Request(
        f"{SIDECAR}/api/v1/server/{name}",
        data=json.dumps(message).encode(),
        headers={"content-type": "application/json"},
    )
    while True:
        try:
            with OPENER.open(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            sys.exit(f"{name}: {error.status} {error.read().decode()}")
        except OSError as error:
            print(f"{name}: {error}; trying again", file=sys.stderr)
            time.sleep(0.2)


def hints_of(answer):
    """A single hint is sent as its name, several as their sum."""
    hints = answer.get("hintFlags", 0)
    return SHUTDOWN if hints == "HINT_FLAG_SHUTDOWN" else hints if isinstance(hints, int) else 0


def next_match():
    """The match, or nothing if this server is no longer needed."""
    while True:
        answer = call("request_match", {"hintFlags": WILLING_TO_WAIT})
        if hints_of(answer) & SHUTDOWN:
            return None
        if "match" in answer:
            return answer["match"]
        time.sleep(0.2)


def play(game, until):
    """Sends back what players send."""
    while (left := until - time.monotonic()) > 0:
        game.settimeout(left)
        try:
            data, player = game.recvfrom(2048)
        except TimeoutError:
            return
        game.sendto(data, player)


def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as game:
        game.bind(("0.0.0.0", PORT))
        for _ in range(MATCHES):
            match = next_match()
            if match is None:
                print("no longer needed", flush=True)
                return
            print("playing", match["matchId"], *match.get("playerIds", []), flush=True)
            call("match_ready", {"connectionDetails": str(game.getsockname()[1])})
            play(game, time.monotonic() + PLAY_SECONDS)
            call("end_match", {})
            print("over", flush=True)


main()
