#!/bin/sh
# Predicts one study, a film and its report, with grpcurl.
#
#   sh call.sh localhost:8500 openi film.png report.txt
#
# `kmm serve` describes its messages to grpcurl by reflection. TensorFlow Serving does not: write a file of descriptors
# once with `python write_protoset.py serving.protoset`, and set PROTOSET=serving.protoset.
set -eu
if [ $# -ne 4 ]; then
    echo "usage: call.sh HOST:PORT MODEL FILM REPORT" >&2
    exit 2
fi
for file in "$3" "$4"; do
    [ -r "$file" ] || { echo "$file: expected a readable file" >&2; exit 2; }
done
encode() { base64 <"$1" | tr -d '\n'; }
tensor() { printf '{"dtype": "DT_STRING", "tensor_shape": {"dim": [{"size": 1}]}, "string_val": ["%s"]}' "$(encode "$1")"; }
{
    printf '{"model_spec": {"name": "%s", "signature_name": "serving_bytes"},\n' "$2"
    printf ' "inputs": {"image_bytes": '
    tensor "$3"
    printf ',\n "report": '
    tensor "$4"
    printf '}}\n'
} | grpcurl -plaintext -max-time 30 ${PROTOSET:+-protoset "$PROTOSET"} -d @ "$1" \
    tensorflow.serving.PredictionService/Predict
