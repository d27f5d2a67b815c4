/**
 * What the shells load. Each asks the command line itself, so that commands and options are never listed twice. An answer has a line for
 * each word, a tab before its description; the line `:files` asks the shell for file names.
 */
export const COMPLETION_SCRIPTS = {
  bash: `_caisson() {
  local IFS=$'\\n' line
  COMPREPLY=()
  while read -r line; do
    if [[ $line == ":files" ]]; then
      compopt -o default
    else
      line="\${line%%$'\\t'*}"
      if [[ $line == "\${COMP_WORDS[COMP_CWORD]}"* ]]; then COMPREPLY+=("$line"); fi
    fi
  done < <("\${COMP_WORDS[0]}" __complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _caisson caisson
`,
  zsh: `#compdef caisson
_caisson() {
  local line
  local -a words_found
  for line in "\${(@f)$("\${words[1]}" __complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    if [[ $line == ":files" ]]; then
      _files
    elif [[ -n $line ]]; then
      words_found+=("\${line/$'\\t'/:}")
    fi
  done
  if (( \${#words_found} )); then _describe caisson words_found; fi
}
if [[ $funcstack[1] == _caisson ]]; then _caisson "$@"; else compdef _caisson caisson; fi
`,
  fish: `function __caisson_complete
  set -l words (commandline -opc)
  set -l found ($words[1] __complete -- $words[2..] (commandline -ct) 2>/dev/null)
  for line in $found
    if test "$line" = ":files"
      __fish_complete_path (commandline -ct)
    else
      echo $line
    end
  end
end
complete -c caisson -f -a '(__caisson_complete)'
`,
} as const;

export type Shell = keyof typeof COMPLETION_SCRIPTS;
