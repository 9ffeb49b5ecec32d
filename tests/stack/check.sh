#!/bin/sh
# Checks a running compose stack as a stranger would: curl, sh and Python's standard library, nothing of ours.
#   docker compose up -d --build --scale worker=3 && sh tests/stack/check.sh
# Posts a training job and several sampling jobs, follows them, downloads a checkpoint and checks every byte of it, and sees three
# workers share the work. When an engine is reachable it scales the workers to three first. Exits non-zero on any shortfall.
set -eu

SERVER=${MESHYARD_SERVER:-http://127.0.0.1:8642}
KEY=${MESHYARD_API_KEY:-for-this-machine-only}
WORKERS=3
SAMPLERS=6
LIMIT=${STACK_SECONDS:-420}
here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
started=$(date +%s)

say() { printf '[check %3d s] %s\n' "$(($(date +%s) - started))" "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }

# api METHOD PATH [curl arguments]: the body of a successful answer; anything else ends the check.
api() {
    method=$1 path=$2
    shift 2
    curl --silent --show-error --fail-with-body --max-time 60 -X "$method" -H "Authorization: Bearer $KEY" "$@" "$SERVER$path" || fail "$method $path"
}

# pick EXPRESSION: evaluate a Python expression over the JSON document `it` on standard input.
pick() { python3 -c "import json, sys; it = json.load(sys.stdin); print($1)"; }

# until_true SECONDS MESSAGE COMMAND...: try once a second.
until_true() {
    left=$1 message=$2
    shift 2
    until "$@"; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || fail "$message"
        sleep 1
    done
}

is_ready() { curl --silent --fail --max-time 5 "$SERVER/readyz" >"$scratch/ready.json"; }
enough_workers() { [ "$(api GET '/v1/workers?limit=100' | pick 'sum(w["status"] != "gone" for w in it["data"])')" -ge "$WORKERS" ]; }
status_of() { api GET "/v1/jobs/$1" | pick 'it["status"]'; }
has_ended() { case $(status_of "$1") in succeeded | failed | cancelled) true ;; *) false ;; esac; }
submit() { api POST /v1/jobs -H 'Content-Type: application/json' --data-binary "@$1" | pick 'it["id"]'; }

until_true 120 "the service is not ready" is_ready
say "service ready"

compose=
if docker compose version >/dev/null 2>&1; then compose="docker compose"; elif docker-compose version >/dev/null 2>&1; then compose=docker-compose; fi
in_project() { (cd "$here/../.." && $compose "$@"); }
all_healthy() {
    in_project ps -q postgres service worker >"$scratch/containers.txt"
    [ -s "$scratch/containers.txt" ] && ! xargs docker inspect -f '{{.State.Health.Status}}' <"$scratch/containers.txt" | grep -qv '^healthy$'
}
if [ -n "$compose" ] && docker info >/dev/null 2>&1; then
    in_project up -d --no-deps --no-recreate --scale worker=$WORKERS worker >"$scratch/scale.log" 2>&1 || { cat "$scratch/scale.log" >&2; fail "scale"; }
    until_true 180 "a container is not healthy" all_healthy
    say "$(wc -l <"$scratch/containers.txt") containers healthy"
fi
until_true 120 "fewer than $WORKERS workers" enough_workers
say "$WORKERS workers registered"

# The same bytes twice are the same dataset.
python3 -c 'import argparse, inspect; print(inspect.getsource(argparse))' >"$scratch/text.txt"
dataset=$(api POST '/v1/datasets?name=stack-check&format=text' --data-binary "@$scratch/text.txt" | pick 'it["id"]')
again=$(api POST '/v1/datasets?name=stack-check&format=text' --data-binary "@$scratch/text.txt" | pick 'it["id"]')
[ "$dataset" = "$again" ] || fail "the same bytes gave two datasets"
say "dataset $dataset"

cat >"$scratch/train.json" <<JSON
{"kind": "train", "name": "stack-train",
 "model": {"type": "transformer", "vocab_size": 256, "dim": 32, "n_layers": 1, "n_heads": 2, "context": 32},
 "data": {"dataset": "$dataset", "batch_size": 8, "eval_fraction": 0.1, "eval_batches": 4},
 "optimizer": {"type": "adamw", "learning_rate": 0.003},
 "mesh": {"axes": {"data": 2}, "sharding": "dp"},
 "steps": 60, "checkpoint": {"every_steps": 20}, "seed": 1}
JSON
train=$(submit "$scratch/train.json")
say "training job $train"

jobs=
number=0
while [ "$number" -lt "$SAMPLERS" ]; do
    number=$((number + 1))
    cat >"$scratch/sample.json" <<JSON
{"kind": "mcmc", "name": "stack-eight-schools-$number",
 "model": {"type": "eight_schools"},
 "data": {"inline": {"y": [28, 8, -3, 7, -1, 1, 18, 12], "sigma": [15, 10, 16, 11, 9, 11, 10, 18]}},
 "kernel": {"type": "NUTS", "target_accept_prob": 0.9},
 "num_warmup": 300, "num_samples": 500, "num_chains": 4, "seed": $number}
JSON
    jobs="$jobs $(submit "$scratch/sample.json")"
done
say "$SAMPLERS sampling jobs"

for job in $train $jobs; do
    until_true "$LIMIT" "$job did not end" has_ended "$job"
    [ "$(status_of "$job")" = succeeded ] || fail "$job: $(api GET "/v1/jobs/$job" | pick '"%s, %s" % (it["status"], it["error"])')"
done
say "all succeeded"

for job in $train $jobs; do
    api GET "/v1/jobs/$job/attempts" | pick '"\n".join(w for a in it["data"] for w in a["workers"])'
done | sort | uniq -c | tee "$scratch/shares.txt"
[ "$(wc -l <"$scratch/shares.txt")" -ge "$WORKERS" ] || fail "fewer than $WORKERS workers took part"
say "$WORKERS workers shared the work"

# The newest checkpoint, file by file against its manifest, then as one archive.
step=$(api GET "/v1/jobs/$train/checkpoints?limit=100" | pick 'it["data"][-1]["step"]')
[ "$step" = 60 ] || fail "the last checkpoint is of step $step, not 60"
api GET "/v1/jobs/$train/checkpoints/$step/files" >"$scratch/manifest.json"
pick '"\n".join(f["sha256"] + "  " + f["path"] for f in it["data"])' <"$scratch/manifest.json" >"$scratch/SHA256SUMS"
mkdir "$scratch/files"
cut -c 67- "$scratch/SHA256SUMS" | while read -r path; do
    mkdir -p "$scratch/files/$(dirname "$path")"
    api GET "/v1/jobs/$train/checkpoints/$step/files/$path" -o "$scratch/files/$path"
done
(cd "$scratch/files" && sha256sum --check --quiet "$scratch/SHA256SUMS") || fail "a file differs from its manifest"
say "$(wc -l <"$scratch/SHA256SUMS") files of step $step, every digest right"

api GET "/v1/jobs/$train/checkpoints/$step/archive?format=tar" -o "$scratch/checkpoint.tar"
mkdir "$scratch/archive"
tar -xf "$scratch/checkpoint.tar" -C "$scratch/archive"
(cd "$scratch/archive/$step" && sha256sum --check --quiet "$scratch/SHA256SUMS") || fail "the archive differs from the manifest"
for part in state data meta; do [ -d "$scratch/archive/$step/$part" ] || fail "the archive has no $part"; done
say "the archive holds the same bytes"

for job in $jobs; do
    api GET "/v1/jobs/$job/result" >"$scratch/result.json"
    pick 'abs(it["summary"]["mu"]["mean"] - 4.4) < 1.5 and it["summary"]["mu"]["r_hat"] < 1.05' <"$scratch/result.json" | grep -q True ||
        fail "$job: mu is $(pick 'it["summary"]["mu"]' <"$scratch/result.json")"
done
say "every posterior agrees with the published one (mu about 4.4)"
say "passed"
