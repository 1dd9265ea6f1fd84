#!/bin/sh
# The smallest game server: it asks for a match, says where players connect, plays, and says that it is over.
#
#     sortie up --dev &
#     sh examples/game-server.sh            # waits for a match
#     sortie match submit --player alice    # gives it one
#
# Sortie sets the variables for the servers that it starts itself. The defaults work with `sortie up --dev`.
set -eu

api=${SORTIE_API:-http://127.0.0.1:7400}
server=${SORTIE_SERVER_ID:-my-server-$$}
address=127.0.0.1:${SORTIE_PORT:-7777}

call() {
    curl ${SORTIE_CA:+--cacert "$SORTIE_CA"} --silent --show-error --fail-with-body --header "authorization: Bearer ${SORTIE_API_KEY:-none}" \
        --data "$2" "$api/api/v1/server/$1"
}

# With this hint, Sortie holds the call until there is a match, or answers after a while without one.
match=
while [ -z "$match" ]; do
    answer=$(call request_match '{"serverId": "'"$server"'", "hintFlags": "HINT_FLAG_WILLING_TO_WAIT"}')
    case $answer in *HINT_FLAG_SHUTDOWN*) echo "no longer needed"; exit 0 ;; esac
    match=$(printf %s "$answer" | sed -n 's/.*"matchId":"\([^"]*\)".*/\1/p')
done
echo "playing $match"

call match_ready '{"serverId": "'"$server"'", "matchId": "'"$match"'", "connectionDetails": "'"$address"'"}'
sleep "${PLAY_SECONDS:-5}"
call end_match '{"serverId": "'"$server"'", "matchId": "'"$match"'", "hintFlags": "HINT_FLAG_SHUTDOWN"}'
echo
echo "over"
