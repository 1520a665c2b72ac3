# Completion for the dlm commands in bash: options come from --help, so they are always those of the installed version.
_dlm() {
    local cur=${COMP_WORDS[COMP_CWORD]} cmd=${COMP_WORDS[0]}
    if [[ $cur == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$("$cmd" --help 2>/dev/null | grep -oE -- '--[a-z][a-z0-9-]*' | sort -u)" -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    fi
}
complete -o filenames -F _dlm dlm-tokenize dlm-shard dlm-train dlm-eval dlm-sample dlm-fitlaw
