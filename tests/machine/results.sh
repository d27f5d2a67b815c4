# How a run of emulated machines is recorded: a directory for each machine, in it NAME.result (`passed 75 s`) and NAME.log for each part. To be sourced.
# shellcheck shell=sh

# The parts, in their order, that have no result yet, each followed by a comma.
list_parts_left() { # PARTS DIRECTORY
  for part in $1; do
    [ -e "$2/$part.result" ] || printf '%s,' "$part"
  done
}

# A run that goes on keeps what has passed.
forget_failures() { # DIRECTORY
  find "$1" -name '*.result' ! -exec grep -q '^passed' '{}' ';' -delete
}

# Shows what the guest says, as it says it, and records it. What it says about its parts are lines that begin with "== machine: "; its last line,
# which is its exit code, goes to the file ENDED.
record_guest() { # DIRECTORY ENDED
  log=/dev/null running=''
  : >"$2"
  while IFS= read -r line; do
    case "$line" in
      "machine: ended with "*)
        echo "${line##* }" >"$2"
        continue
        ;;
      "== machine: begins "*)
        running=${line##* }
        log=$1/$running.log
        : >"$log"
        ;;
      "== machine: $running "*)
        echo "${line#"== machine: $running "}" >"$1/$running.result"
        log=/dev/null running=''
        ;;
    esac
    printf '%s\n' "$line"
    printf '%s\n' "$line" >>"$log"
  done
  # A machine that hung or crashed had begun a part and did not end it.
  [ -z "$running" ] || echo "failed: the machine went away" >"$1/$running.result"
}

# One line for each part with its result on each machine, and below it the tests that failed or were skipped.
print_results() { # PARTS DIRECTORY...
  parts=$1
  shift
  echo "== results"
  {
    printf 'part'
    for directory in "$@"; do printf '\t%s' "${directory##*/}"; done
    for part in $parts; do
      printf '\n%s' "$part"
      for directory in "$@"; do printf '\t%s' "$(cat "$directory/$part.result" 2>/dev/null || echo 'not run')"; done
    done
    echo
  } | expand_columns
  for directory in "$@"; do
    for part in $parts; do
      [ -e "$directory/$part.log" ] || continue
      sed -n "s#^\(failed\|skipped\): .*#${directory##*/} $part &#p" "$directory/$part.log"
    done
  done
}
expand_columns() { awk -F '\t' '{ line = ""; for (i = 1; i <= NF; i++) line = line sprintf("%-32s", $i); sub(/ +$/, "", line); print line }'; }

# Whether every part has passed on every machine.
have_all_passed() { # PARTS DIRECTORY...
  parts=$1
  shift
  for directory in "$@"; do
    for part in $parts; do
      grep -qs '^passed' "$directory/$part.result" || return 1
    done
  done
}
