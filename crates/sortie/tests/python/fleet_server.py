"""A game server that a fleet starts. It notes its environment beside itself and then, by its first argument:

hold              plays one match after the other, each until SIGUSR1
exit-after-ready  exits with status 3 when its first match is ready
silent            never calls
stubborn          never calls, and takes no notice of SIGTERM
"""

import http.client
import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request

WILLING_TO_WAIT = 2
PAUSE_SECONDS = 0.05

API = os.environ["SORTIE_API"]
SERVER = os.environ["SORTIE_SERVER_ID"]


def note():
    variables = {name: value for name, value in os.environ.items() if name.startswith("SORTIE_")}
    with open(f"{SERVER}.new", "w") as file:
        json.dump({"pid": os.getpid(), "variables": variables}, file)
    os.rename(f"{SERVER}.new", f"{SERVER}.json")


def call(method, **body):
    """The answer; a control plane that is away is asked again."""
    request = urllib.request.Request(
        f"{API}/api/v1/server/{method}",
        data=json.dumps({"serverId": SERVER, **body}).encode(),
        headers={"authorization": f"Bearer {os.environ['SORTIE_API_KEY']}"},
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            with opener.open(request) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(PAUSE_SECONDS)


def play(mode):
    while True:
        answer = call("request_match", hintFlags=WILLING_TO_WAIT)
        if answer.get("hintFlags") == "HINT_FLAG_SHUTDOWN":
            return
        if "match" not in answer:
            continue
        match_id = answer["match"]["matchId"]
        call("match_ready", matchId=match_id, connectionDetails=f"127.0.0.1:{os.environ['SORTIE_PORT']}")
        if mode == "exit-after-ready":
            sys.exit(3)
        signal.sigwait({signal.SIGUSR1})
        call("end_match", matchId=match_id)


mode = sys.argv[1]
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
if mode == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
note()
if mode in ("silent", "stubborn"):
    while True:
        signal.pause()
play(mode)
