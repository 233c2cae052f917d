# For scripts in guests: each check is told of by itself, and the others go on. Whoever runs the script looks for FAILED.
set -u -o pipefail
bad() { local what="$*"; echo "FAILED: ${what:0:300}"; head -c 3000 /tmp/out; }
check() { "$@" > /tmp/out 2>&1 || bad "$*"; }
refuse() { if "$@" > /tmp/out 2>&1; then bad "not refused: $*"; fi; }
said() { grep -q -- "$1" /tmp/out || bad "not said: $1"; }
unsaid() { ! grep -E -- "$1" /tmp/out || bad "said: $1"; }
is() { [ "$1" = "$2" ] || bad "'$1' is not '$2' ($3)"; }
below() { [ "$1" -lt "$2" ] || bad "$1 is not below $2 ($3)"; }
# `comes WHAT COMMAND…`: the command succeeds within two minutes.
comes() { local what=$1 end=$((SECONDS + 120)); shift; until "$@" > /tmp/out 2>&1; do [ $SECONDS -lt $end ] || { bad "it does not come: $what"; return; }; sleep 0.1; done; }
prop() { systemctl show -P "$2" "$1"; }
serving() { for i in $(seq 1000); do volctl status > /tmp/out 2>&1; case $? in 0 | 10) return 0;; esac; sleep 0.1; done; return 1; }
# `part NAME`: runs the function of that name, and says how long it took.
part() { local begin=$EPOCHREALTIME; "$1"; echo "PART $1: $(((${EPOCHREALTIME/./} - ${begin/./}) / 1000)) ms"; }
