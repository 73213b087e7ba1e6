#!/bin/sh
# Predicts one study, a film and its report, with curl over REST.
#
#   sh call_rest.sh localhost:8501 openi film.png report.txt
set -eu
if [ $# -ne 4 ]; then
    echo "usage: call_rest.sh HOST:PORT MODEL FILM REPORT" >&2
    exit 2
fi
for file in "$3" "$4"; do
    [ -r "$file" ] || { echo "$file: expected a readable file" >&2; exit 2; }
done
encode() { base64 <"$1" | tr -d '\n'; }
{
    printf '{"signature_name": "serving_bytes", "instances": [{"image_bytes": {"b64": "'
    encode "$3"
    printf '"}, "report": {"b64": "'
    encode "$4"
    printf '"}}]}'
} | curl --silent --show-error --fail-with-body --max-time 30 --header 'Content-Type: application/json' \
    --data-binary @- "http://$1/v1/models/$2:predict"
