"""A game server built for Agones, with a published SDK: it waits until it is allocated, plays and shuts down.

It says nothing of matches, for Agones has none. Prints the match that it finds in its annotations.
"""

import json
import sys

from agones_python_sdk import ApiClient, Configuration, SDKApi

DEADLINE = 60

sdk = SDKApi(ApiClient(Configuration(host=f"http://{sys.argv[1]}")))
watched = sdk.watch_game_server_without_preload_content(_request_timeout=DEADLINE)
states = (json.loads(line)["result"] for line in watched)


def until(state):
    for server in states:
        if server["status"]["state"] == state:
            return server
    raise AssertionError(f"the stream ended before {state}")


sdk.health({}, _request_timeout=DEADLINE)
sdk.ready({}, _request_timeout=DEADLINE)
allocated = until("Allocated")
match = allocated["object_meta"]["annotations"]["sortie.dev/match-id"]
read = sdk.get_game_server(_request_timeout=DEADLINE)
assert read.status.state == "Allocated", read
assert read.object_meta.annotations["sortie.dev/match-id"] == match, read
sdk.set_label({"key": "mode", "value": "duel"}, _request_timeout=DEADLINE)
labelled = next(states)
assert labelled["object_meta"]["labels"]["agones.dev/sdk-mode"] == "duel", labelled
sdk.shutdown({}, _request_timeout=DEADLINE)
until("Shutdown")
print(match)
