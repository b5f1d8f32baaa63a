#!/bin/sh
# Send a file in pieces, in order; come again where there is no room: ./curl.sh app.log
split --lines=20000 --filter='gzip | curl --silent --show-error --fail --retry 100 \
  --header "Content-Type: text/plain" --header "Content-Encoding: gzip" \
  --data-binary @- --output /dev/null "http://127.0.0.1:8400/v1/lines?source=$(hostname)"' "$1"
